"""The precision of a comparison's passes, decided once before it starts: ``settle(trials)``.

Where recipes leave it to the machine (``dtype: auto``), cells that ran on different ones would differ in it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from autolora.comparison.plan import Trial
from autolora.recipe.schema import Recipe
from autolora.runs.manifest import recorded_precision
from autolora.training.compute import Precision, default_device, precision


def settle(trials: Sequence[Trial], machine: Callable[[], Precision] | None = None) -> dict[str, Precision]:
    """The precision of each recipe's passes, by its name: what it says, what its runs had, or what this machine takes.

    Args:
        trials: From `autolora.comparison.plan.plan`.
        machine: What the machine takes, or those of a cluster, asked where a recipe leaves it to them; None for this
            machine.
    """
    found = {}
    left = sorted(trials, key=lambda trial: trial.recipe.model.dtype != "auto")  # a sweep may have both
    for name in dict.fromkeys(trial.recipe.name for trial in trials):
        dtype = next(trial.recipe.model.dtype for trial in left if trial.recipe.name == name)
        had = next(_recorded(trials, name), None) if dtype == "auto" else None
        found[name] = had or (precision(dtype, default_device()) if dtype != "auto" or machine is None else machine())
    return found


def settled(recipe: Recipe, found: Mapping[str, Precision]) -> Precision:
    """The precision of one trial's passes.

    Args:
        recipe: The trial's, which may say it.
        found: From `settle`.
    """
    return found[recipe.name] if recipe.model.dtype == "auto" else recipe.model.dtype


def _recorded(trials: Sequence[Trial], name: str) -> Iterator[Precision]:
    """What the runs of a recipe's trials were trained in, those that are done first."""
    of_it = [trial for trial in trials if trial.recipe.name == name and trial.recipe.model.dtype == "auto"]
    mine = [trial for trial in of_it if trial.run is not None]
    for trial in sorted(mine, key=lambda trial: not trial.done):
        assert trial.run is not None
        stages: dict[str, Any] = trial.run.manifest().get("stages", {})
        for stage in ("retrain", "search"):
            if record := stages.get(stage, {}).get("device"):
                yield cast(Precision, recorded_precision(record))
