"""Whether a stored adapter is the one that ranks and head say, read without torch.

    faults = [*config_faults(read_config(folder), ranks, head), *tensor_faults(read_shapes(folder), wanted)]

PEFT takes what ``adapter_config.json`` says for granted, leaves random what the file of weights lacks, and drops what
it has more. So both are held against the ranks, layer by layer and tensor by tensor.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolora.errors import UserError
from autolora.files import read_json

if TYPE_CHECKING:
    from autolora.lora.ranks import Ranks

CONFIG, TENSORS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"
WEIGHTS, RECORD = "weights.safetensors", "method.json"  # of a method whose product is no adapter of PEFT's
WRAPPED = "base_model.model."  # in front of every name in PEFT's files

IMPORTS = ("megatron_config",)  # with which PEFT imports the module that the configuration names

Shape = tuple[int, ...]


def _numbers(value: Any) -> bool:
    """By pattern, each of which is one."""
    return isinstance(value, dict) and all(_number(each) and _pattern_fits(key) for key, each in value.items())


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _pattern_fits(text: str) -> bool:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


SHAPES: dict[str, Callable[[Any], bool]] = {  # of the entries that are read here; all may be missing, or null
    "r": _number,
    "lora_alpha": _number,
    "rank_pattern": lambda value: isinstance(value, dict),  # AdaLoRA's are lists
    "alpha_pattern": _numbers,
    "target_modules": lambda value: _pattern_fits(value) if isinstance(value, str) else _names(value),
    "modules_to_save": _names,
    "task_type": lambda value: isinstance(value, str),
    "peft_type": lambda value: isinstance(value, str),
    "fan_in_fan_out": lambda value: isinstance(value, bool),
}


def read_config(folder: Path) -> dict[str, Any]:
    """The content of an adapter's configuration.

    Args:
        folder: The adapter's.

    Raises:
        UserError: It is missing or damaged.
    """
    content = read_json(folder / CONFIG)
    check_config(folder / CONFIG, content)
    found: dict[str, Any] = content
    return found


def check_config(path: Path, content: object) -> None:
    """Make sure that it can be the configuration of an adapter that is read here.

    Args:
        path: The file.
        content: Of it.

    Raises:
        UserError: It is none, or makes PEFT import a module that the file names.
    """
    if not isinstance(content, dict):
        raise UserError(f"{path} is no configuration of an adapter: it is no JSON object")
    for key, fits in SHAPES.items():
        if content.get(key) is not None and not fits(content[key]):
            raise UserError(f"{path} is no configuration of an adapter: {key} is {str(content[key])[:80]!r}")
    if named := [key for key in IMPORTS if content.get(key) is not None]:
        raise UserError(
            f"{path}: {named[0]} makes PEFT import modules that the file names; autolora writes no such adapter, "
            "and reads none"
        )


def read_shapes(folder: Path) -> dict[str, Shape]:
    """The shape of every tensor of an adapter, by the name in its file.

    Args:
        folder: The adapter's.

    Raises:
        UserError: The file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / TENSORS
    try:
        with safe_open(str(path), framework="numpy") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be loaded ({error})") from None


def config_faults(config: Mapping[str, Any], ranks: Ranks, head: Sequence[str], layers: Sequence[str]) -> Iterator[str]:
    """What in a LoRA's configuration is not as ranks and head say.

    Args:
        config: The content of adapter_config.json.
        ranks: With their scaling.
        head: Full names of the modules that are trained in full.
        layers: Full names of all layers that could be adapted.
    """
    for name in ranks:
        if (found := rank_in(config, name)) != ranks[name]:
            yield f"{name} has the rank {found}, but should have {ranks[name]}"
        elif found and not math.isclose(scale := scaling_in(config, name), ranks.scale(name), rel_tol=1e-6):
            yield f"{name} has the scaling {scale:g}, but should have {ranks.scale(name):g}"
    for name in layers:
        if name not in ranks and rank_in(config, name):
            yield f"{name} is among the target_modules, but should not be"
    for name in head:
        if not any(_means(saved, name) for saved in config.get("modules_to_save") or ()):
            yield f"{name} is not among the modules_to_save"


def tensor_faults(found: Mapping[str, Shape], wanted: Mapping[str, Shape]) -> Iterator[str]:
    """What in a file of weights is missing, too much or of another shape.

    Args:
        found: Shapes by name.
        wanted: What they should be.
    """
    for name in sorted(wanted.keys() - found.keys()):
        yield f"{name} is missing"
    for name in sorted(found.keys() - wanted.keys()):
        yield f"{name} is not part of this adapter"
    for name in sorted(wanted.keys() & found.keys()):
        if tuple(found[name]) != tuple(wanted[name]):
            yield f"{name} has the shape {tuple(found[name])}, but should have {tuple(wanted[name])}"


def lora_shapes(ranks: Ranks, shapes: Mapping[str, tuple[int, int]]) -> dict[str, Shape]:
    """The tensors of a LoRA at these ranks, by the name in PEFT's file.

    Args:
        ranks: The rank by full module name.
        shapes: (input, output) features by the same names.
    """
    found: dict[str, Shape] = {}
    for name in ranks.targets:
        n, m = shapes[name]
        found[f"{WRAPPED}{name}.lora_A.weight"] = (ranks[name], n)
        found[f"{WRAPPED}{name}.lora_B.weight"] = (m, ranks[name])
    return found


def rank_in(config: Mapping[str, Any], name: str) -> int:
    """The rank that PEFT gives a module; 0 where it leaves it out.

    Args:
        config: The content of adapter_config.json.
        name: The module's full name.
    """
    targets = config["target_modules"]
    whole = isinstance(targets, str)
    chosen = re.fullmatch(targets, name) is not None if whole else any(_means(target, name) for target in targets)
    return int(in_pattern(config, "rank_pattern", config["r"])(name)) if chosen else 0


def scaling_in(config: Mapping[str, Any], name: str) -> float:
    """The scaling that PEFT gives a module which it adapts.

    Args:
        config: The content of adapter_config.json.
        name: The module's full name.
    """
    return scaling_of(config, rank_in(config, name), in_pattern(config, "alpha_pattern", config["lora_alpha"])(name))


def scaling_of(config: Mapping[str, Any], rank: int, alpha: float) -> float:
    """The scaling that PEFT makes of a rank and an alpha: alpha / rank, or of a rank-stabilised LoRA alpha / √rank.

    Args:
        config: The content of adapter_config.json.
        rank: From 1.
        alpha: Likewise a module's own.
    """
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def in_pattern(config: Mapping[str, Any], key: str, default: float) -> Callable[[str], float]:
    """What PEFT reads off one of its patterns for a module, by its full name: the value of the first key that fits.

    Args:
        config: The content of adapter_config.json.
        key: rank_pattern or alpha_pattern.
        default: Where no key fits.
    """
    patterns: Mapping[str, float] = config.get(key) or {}
    return lambda name: next((value for each, value in patterns.items() if _compiled(each).match(name)), default)


@lru_cache(maxsize=8192)  # re's own holds fewer than a large model has modules
def _compiled(pattern: str) -> re.Pattern[str]:
    """A key of PEFT's patterns, as PEFT reads it."""
    return re.compile(rf"(.*\.)?({pattern})$")


def _means(end: str, name: str) -> bool:
    return name == end or name.endswith(f".{end}")
