"""Adapters that cannot be merged, refused by name before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autolora.errors import UserError

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
