"""From a run's directory to an `Allocation`, without torch or transformers: ``read_allocation(Run.open(path))``.

The ranks are those of ``retrain/ranks.json`` where a method finds them in training, else those of
``search/ranks.json``. What only the model can tell (the head's modules, PEFT's task type) is in the adapters' own
configuration.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from autolora.errors import UserError
from autolora.export.base import Allocation
from autolora.files import parse_json
from autolora.lora.ranks import STORED, Ranks
from autolora.lora.stored import TENSORS, check_config, lora_shapes, rank_in, read_shapes, scaling_in, tensor_faults
from autolora.model.bundled import bundled
from autolora.runs.folders import ranks_file
from autolora.runs.inventory import WHOLE, check_there, verify_below
from autolora.runs.store import Run

# How other tools come to what these methods do beside giving a rank.
BESIDE_RANKS = {
    "dora": "set use_dora: true beside them",
    "pissa": "set init_lora_weights: pissa beside them",
    "olora": "set init_lora_weights: olora beside them",
    "lora-fa": "A is frozen, as PEFT's create_lorafa_optimizer has it",
    "lora-plus": "B learns faster than A, as with PEFT's create_loraplus_optimizer",
}
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, re.error)


def read_allocation(run: Run) -> Allocation:
    """The ranks of a run, and what a tool must know beside them.

    Args:
        run: Searched at least.

    Raises:
        UserError: There are no ranks, or the run's files contradict each other.
    """
    check_there(run.path, WHOLE, "search", "retrain")
    for folder in ("adapter", "search/adapter"):
        verify_below(run.path, folder)
    recipe, ranks = run.recipe, _ranks(run)
    own, searched = _read_adapter(run.path / "adapter"), _read_adapter(run.path / "search" / "adapter")
    lora = own is not None and own.get("peft_type") == "LORA"
    if own is not None and lora:
        stored = ranks.at(ranks.rule[STORED]) if STORED in ranks.rule else ranks
        _agree(run.path / "adapter", own, stored, ranks_file(run.path))
    config = own or searched
    head, task_type, fan_in_fan_out = _facts(run, config)
    known = bundled(recipe.model.name)
    return Allocation(
        source=str(run.path),
        model=known.hub if known else recipe.model.name,
        revision=None if known else recipe.model.revision,
        task_type=task_type,
        ranks=ranks,
        dropout=recipe.retrain_dropout,
        head=head,
        fan_in_fan_out=fan_in_fan_out,
        adapter=str(run.path / "adapter") if lora and STORED not in ranks.rule else None,
        remarks=(*_of_method(run, ranks), *(() if config else (_unknown(run),))),
    )


def _of_method(run: Run, ranks: Ranks) -> Iterator[str]:
    """What the configuration of a plain LoRA does not say of the run's method."""
    method = run.recipe.method.name
    if method in BESIDE_RANKS:
        yield f"The run's method is {method}, and ranks are not all of it: {BESIDE_RANKS[method]}."
    if STORED in ranks.rule:
        yield (
            f"The run's adapter is the difference to the pretrained weights, of rank {ranks.rule[STORED]}: it is used "
            "as it is, and training does not go on from it at these ranks."
        )


def _unknown(run: Run) -> str:
    what = (
        "PEFT's task type is"
        if isinstance(run.recipe.model.head, tuple)
        else "the head's modules and PEFT's task type are"
    )
    return (
        f"The run has no adapter yet, which would tell what only the model knows: {what} left open. "
        f"They are filled in after: autolora retrain {run.path}"
    )


def _ranks(run: Run) -> Ranks:
    if run.stage_state("retrain") == "success" and not ranks_file(run.path).exists():
        raise UserError(f"{run.path}: its method, {run.recipe.method.name}, has no ranks; there is nothing to export")
    return run.ranks()


def _read_adapter(folder: Path) -> dict[str, Any] | None:
    """A PEFT adapter's configuration; None where the folder has none."""
    path = folder / "adapter_config.json"
    if not path.exists():
        return None
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except _DAMAGE as error:
        raise UserError(f"{path} is no configuration of an adapter ({_short(error)}); {_anew(folder)}") from error
    try:
        check_config(path, content)
    except UserError as error:
        raise UserError(f"{error}; {_anew(folder)}") from error
    found: dict[str, Any] = content
    return found


def _facts(run: Run, config: Mapping[str, Any] | None) -> tuple[tuple[str, ...], str | None, bool]:
    """Head, task type, and whether weights are transposed: from the adapter, or what the recipe says."""
    if config is None:
        head = run.recipe.model.head
        return head if isinstance(head, tuple) else (), None, False
    return tuple(config.get("modules_to_save") or ()), config.get("task_type"), bool(config.get("fan_in_fan_out"))


def _agree(folder: Path, config: Mapping[str, Any], ranks: Ranks, path: Path) -> None:
    """Raises UserError where the adapter has other ranks or scalings than the file says, or lacks a factor."""
    try:
        found = {name: rank_in(config, name) for name in ranks}
    except _DAMAGE as error:
        raise UserError(f"{folder / 'adapter_config.json'} is no LoRA ({_short(error)}); {_anew(folder)}") from error
    different = [name for name, rank in ranks.items() if found[name] != rank]
    if different:
        name = different[0]
        raise UserError(
            f"{folder} was trained at other ranks than {path} has, in {len(different)} of {len(ranks)} layers "
            f"({name}: {found[name]}, not {ranks[name]}); {_anew(folder)}"
        )
    if fault := next(chain(_scaling_faults(config, ranks), _factor_faults(folder, ranks)), None):
        raise UserError(f"{folder} is not what was trained: {fault}; {_anew(folder)}")


def _scaling_faults(config: Mapping[str, Any], ranks: Ranks) -> Iterator[str]:
    if "lora_alpha" in config and "share" not in ranks.rule:  # compressed factors have their scaling in them
        for name in ranks.targets:
            if not math.isclose(scale := scaling_in(config, name), ranks.scale(name), rel_tol=1e-6):
                yield f"{name} has the scaling {scale:g}, but should have {ranks.scale(name):g}"


def _factor_faults(folder: Path, ranks: Ranks) -> Iterator[str]:
    if ranks.shapes and (folder / TENSORS).exists():
        wanted, found = lora_shapes(ranks, ranks.shapes), read_shapes(folder)
        yield from tensor_faults(
            {name: shape for name, shape in found.items() if ".lora_A." in name or ".lora_B." in name}, wanted
        )


def _anew(folder: Path) -> str:
    run = folder.parent.parent if folder.parent.name == "search" else folder.parent
    return f"remove {folder}, or write it anew with: autolora {'search' if run != folder.parent else 'retrain'} {run}"


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) <= 120 else text[:119] + '…'}"
