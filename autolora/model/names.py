"""Names of tensors that are not the model's own, from a checkpoint's names alone: ``foreign(names, where)``.

A model that was saved inside a wrapper has the wrapper's name in those of its tensors. transformers finds none of them,
and draws the whole model at random.
"""

from __future__ import annotations

from collections.abc import Collection

WRAPPERS = {  # by what stands in the names, and what puts it there
    "_orig_mod.": "torch.compile",
    "_fsdp_wrapped_module.": "FSDP",
    "_checkpoint_wrapped_module.": "a wrapper for activation checkpoints",
    "_forward_module.": "Lightning Fabric",
    "base_model.model.": "PEFT",
    "module.": "DataParallel",
}
ADAPTERS = (".lora_A.", ".lora_B.", ".base_layer.")


def foreign(names: Collection[str], where: str) -> str | None:
    """What is wrong with the names of a checkpoint's tensors, and what to do; None where nothing is.

    Args:
        names: Of all tensors of the checkpoint, or of those that the model has no place for.
        where: The checkpoint, as the message calls it.
    """
    if adapted := sorted(name for name in names if any(part in name for part in ADAPTERS)):
        return (
            f"{where} holds a LoRA adapter that was not merged ({adapted[0]}); merge it with PEFT's "
            "merge_and_unload(), and save the model that this gives"
        )
    for part, wrapper in WRAPPERS.items():
        if found := sorted(name for name in names if name.startswith(part) or f".{part}" in name):
            return (
                f"{where}: the names of {len(found)} tensors have {part!r} in them, which {wrapper} puts there "
                f"({found[0]}), so none of them is the model's; rename them: {_renaming(where, part)}"
            )
    return None


def _renaming(where: str, part: str) -> str:
    return (
        f"from safetensors.torch import load_file, save_file; file = '{where}/model.safetensors'; "
        f"save_file({{name.replace('{part}', ''): tensor for name, tensor in load_file(file).items()}}, file, "
        "metadata={'format': 'pt'})"
    )
