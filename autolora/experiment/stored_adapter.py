"""What a folder holds of a stored adapter, wherever it was trained, read without its weights: ``read_stored(folder)``.

Every kind of LoRA whose update is not s B A on a linear layer is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autolora.errors import UserError
from autolora.files import file_hash, read_json
from autolora.lora.config import ADDED
from autolora.lora.stored import CONFIG, TENSORS, WRAPPED, Shape, read_config, read_shapes

# Entries of PEFT's configuration that a plain LoRA may have; any other one that says something is a variant's.
PLAIN = {
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "r", "target_modules", "exclude_modules", "lora_alpha", "lora_dropout", "fan_in_fan_out"),
    *("bias", "use_rslora", "modules_to_save", "init_lora_weights", "layers_to_transform", "layers_pattern"),
    *("rank_pattern", "alpha_pattern", "qalora_group_size", "megatron_core", "runtime_config"),
    *("eva_config", "loftq_config", "corda_config", "lora_ga_config"),  # of the initialisation, which is over
}
BEGINNINGS = (True, False, None, "gaussian", "orthogonal", "eva")  # which leave the base model's weights as they are
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
    for name in (CONFIG, TENSORS):
        if not (folder / name).is_file():
            pickled = " (it holds a pickle, adapter_model.bin, which is not read; save it anew as safetensors)"
            more = pickled if name == TENSORS and (folder / "adapter_model.bin").exists() else ""
            inside = [path.name for path in sorted(folder.glob("*")) if (path / CONFIG).is_file()]
            more += f"; it holds several, name one: {', '.join(inside)}" if inside else ""
            raise UserError(f"{folder} is no stored adapter: it has no {name}{more}")
    config = read_config(folder)
    refuse(folder / CONFIG, "cannot be compressed with data", list(_variants(config)))
    shapes = read_shapes(folder)
    ending = ".lora_A.weight"
    layers = tuple(name.removeprefix(WRAPPED).removesuffix(ending) for name in sorted(shapes) if name.endswith(ending))
    strange = [name for name in sorted(shapes) if not name.startswith(WRAPPED)]
    if strange or not layers:
        found = f"{strange[0]} is not named as PEFT names tensors" if strange else "there is no lora_A in it"
        raise UserError(f"{folder / TENSORS} is no LoRA of PEFT's on linear layers: {found}")
    return Stored(folder, config, shapes, layers, _saved(config, shapes), _class_names(folder))


def _variants(config: Mapping[str, Any]) -> Iterator[str]:
    """What makes it another thing than s B A on linear layers."""
    if config.get("peft_type") != "LORA":
        yield f"peft_type is {config.get('peft_type')!r}, and only LORA has components to choose among"
    for key, value in config.items():
        if key not in PLAIN and value not in (None, False, [], {}):
            yield f"{key} is {str(value)[:60]}, which a plain LoRA does not have"
    if (config.get("bias") or "none") != "none":
        yield f"bias is {config['bias']!r}: a layer that keeps nothing would lose its trained bias"
    if (begun := config.get("init_lora_weights", True)) not in BEGINNINGS:
        yield (
            f"init_lora_weights is {begun!r}, which changes the base model's weights whenever PEFT loads it; convert "
            "it first (PEFT: save_pretrained with path_initial_model_for_weight_conversion)"
        )


def _saved(config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    """The modules whose own tensors are in the file; PEFT finds them by the ends of their names."""
    ends = (*(config.get("modules_to_save") or ()), *ADDED.get(config.get("task_type") or "", ()))
    found: dict[str, None] = {}
    for name in shapes:
        if ".lora_" in name:
            continue
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
