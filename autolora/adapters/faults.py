"""Adapters that cannot be merged, refused by name before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autolora.errors import UserError
from autolora.lora.stored import CONFIG, TENSORS

# PEFT's methods that add inputs or modules to a model instead of changing its weights.
UNMERGEABLE = {
    "PREFIX_TUNING": "learned keys and values in front of the input's",
    "PROMPT_TUNING": "learned embeddings in front of the input's",
    "MULTITASK_PROMPT_TUNING": "learned embeddings in front of the input's",
    "P_TUNING": "learned embeddings in front of the input's",
    "CPT": "learned embeddings in front of the input's",
    "ADAPTION_PROMPT": "learned prompts in its attention",
    "CARTRIDGE": "learned keys and values in front of the input's",
    "XLORA": "adapters that are mixed anew for every input",
}
# Settings of PEFT's LoRA with which the update is no matrix that is added to the weight.
SETTINGS = {
    "layer_replication": "it uses layers of the model several times (layer_replication), which its architecture cannot",
    "alora_invocation_tokens": "it acts only after certain tokens (alora_invocation_tokens)",
    "arrow_config": "it is a router of several adapters (arrow_config)",
    "use_qalora": "it belongs to the groups of a quantised weight (use_qalora)",
}


def adapter_files(folder: Path) -> None:
    """Make sure that a folder holds one adapter in PEFT's format, as safetensors.

    Args:
        folder: The adapter's.

    Raises:
        UserError: It does not.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name a run or an adapter's folder")
    if not (folder / CONFIG).is_file():
        if inside := sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}")):
            raise UserError(f"{folder} holds several adapters; name one: {', '.join(str(folder / n) for n in inside)}")
        raise UserError(
            f"{folder} is neither a run nor an adapter in PEFT's format: it has no {CONFIG}. Adapters of diffusers and "
            "of kohya's scripts are for image models, which are not merged here"
        )
    if not (folder / TENSORS).is_file():
        pickled = next(iter(sorted(folder.glob("adapter_model.bin"))), None)
        why = "its weights are pickled (adapter_model.bin), which is not read" if pickled else f"it has no {TENSORS}"
        raise UserError(f"{folder} cannot be merged: {why}")


def refuse_unmergeable(folder: Path, config: Mapping[str, Any]) -> None:
    """Make sure that an adapter is of a kind whose result is a weight.

    Args:
        folder: The adapter's.
        config: The content of its adapter_config.json.

    Raises:
        UserError: It is not.
    """
    kind = str(config.get("peft_type"))
    if kind in UNMERGEABLE:
        raise UserError(f"{folder} cannot be merged: {kind} is {UNMERGEABLE[kind]}, no change of weights")
    if said := next((text for key, text in SETTINGS.items() if config.get(key)), None):
        raise UserError(f"{folder} cannot be merged: {said}")
