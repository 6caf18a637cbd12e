"""A stored adapter as a recipe sees it, wherever it was trained, read without its weights: ``read_stored(folder)``.

Every kind of LoRA whose update is not s B A on a linear layer is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autolora.adapters.stored import StoredAdapter
from autolora.errors import UserError
from autolora.files import file_hash, read_json
from autolora.lora.config import ADDED
from autolora.lora.stored import CONFIG, TENSORS, WRAPPED, Shape

# Of the settings that an adapter may have which is read without its model, those by which it is more than s B A on
# linear layers; and what to do without data is said by `autolora.adapters`.
MORE = {
    "use_dora": "DoRA's magnitudes belong to the whole update",
    "lora_bias": "a layer that keeps nothing would lose its trained bias",
    "bias": "a layer that keeps nothing would lose its trained bias",
    "alora_invocation_tokens": "it acts on some positions only",
    "trainable_token_indices": "its trained tokens are part of the model",
    "layer_replication": "it changes the model's layers",
    "ensure_weight_tying": "what is tied is trained in two places",
}
SHOWN = 3  # faults in a message


@dataclass(frozen=True)
class Stored:
    """An adapter in a folder, a plain LoRA as far as its files show it.

    Args:
        folder: With adapter_config.json and adapter_model.safetensors.
        config: The content of the former.
        shapes: Of the tensors, by the name in the latter.
        layers: Full names of the layers that have LoRA, in the order of their names.
        saved: Full names of the modules that were trained in full: the head.
        names: Of the classes, by id, where the folder says them; else None.
    """

    folder: Path
    config: Mapping[str, Any]
    shapes: Mapping[str, Shape]
    layers: tuple[str, ...]
    saved: tuple[str, ...]
    names: tuple[str, ...] | None

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of both files, by name."""
        return {name: file_hash(self.folder / name) for name in (CONFIG, TENSORS)}


def read_stored(folder: Path) -> Stored:
    """What a folder holds, without the weights.

    Args:
        folder: The adapter's.

    Raises:
        UserError: There is no adapter, it cannot be read, or it is of a kind that cannot be decomposed.
    """
    found = StoredAdapter.open(folder)
    refuse(found.folder, "can be compressed without data, but not with them", list(_more(found)))
    shapes = {name: entry.shape for name, entry in found.file.entries.items()}
    names = _class_names(found.folder)
    return Stored(found.folder, found.config, shapes, tuple(sorted(found.modules)), _saved(found), names)


def _more(found: StoredAdapter) -> Iterator[str]:
    """What makes it another thing than s B A on linear layers."""
    for key, why in MORE.items():
        value = found.config.get(key)
        if value and value != "none":
            yield f"{key} is {str(value)[:60]!r}: {why}"
    for module in found.modules.values():
        if module.kind != "linear" or len(found.file.entries[module.a].shape) != 2:
            yield f"{module.name} is no linear layer"


def _saved(adapter: StoredAdapter) -> tuple[str, ...]:
    """The modules whose own tensors are in the file; PEFT finds them by the ends of their names."""
    config = adapter.config
    ends = (*(config.get("modules_to_save") or ()), *ADDED.get(config.get("task_type") or "", ()))
    found: dict[str, None] = {}
    for name in adapter.others:
        parts = name.removeprefix(WRAPPED).split(".")
        modules = (".".join(parts[:i]) for i in range(1, len(parts)))
        if (module := next((each for each in modules if each.endswith(ends)), None)) is not None and ends:
            found[module] = None
    return tuple(sorted(found))


def _class_names(folder: Path) -> tuple[str, ...] | None:
    """Of a model's configuration beside the adapter, as autolora writes one; transformers' placeholders say nothing."""
    path = folder / "config.json"
    if not path.is_file():
        return None
    content = read_json(path)
    own = content.get("id2label") if isinstance(content, dict) else None
    if not isinstance(own, dict) or not own:
        return None
    try:
        names = tuple(str(own[key]) for key in sorted(own, key=int))
    except ValueError as error:
        raise UserError(f"{path}: id2label has keys that are no numbers: {error}") from error
    return None if names == tuple(f"LABEL_{i}" for i in range(len(names))) else names


def listed(names: Sequence[str]) -> str:
    """The first names, for a message.

    Args:
        names: At least one.
    """
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def refuse(path: Path, what: str, faults: Sequence[str]) -> None:
    """Say what is wrong, if anything is.

    Args:
        path: The file or folder that it is wrong with.
        what: The predicate of the sentence.
        faults: The reasons.

    Raises:
        UserError: With the first of them.
    """
    if faults:
        more = f" (and {len(faults) - SHOWN} faults more)" if len(faults) > SHOWN else ""
        raise UserError(f"{path} {what}: {'; '.join(faults[:SHOWN])}{more}")
