"""The precision of a comparison's passes, decided once before it starts: ``settle(trials)``.

Where recipes leave it to the machine (``dtype: auto``), cells that ran on different ones would differ in it, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from autolora.comparison.plan import Trial
from autolora.runs.manifest import recorded_precision
from autolora.training.compute import Precision, default_device, precision


def settle(trials: Sequence[Trial]) -> dict[str, Precision]:
    """The precision of each recipe's passes, by its name: what it says, what its runs had, or what this machine takes.

    Args:
        trials: From `autolora.comparison.plan.plan`.
    """
    device, found = default_device(), {}
    for trial in trials:
        name, dtype = trial.recipe.name, trial.recipe.model.dtype
        if name not in found:
            had = next(_recorded(trials, name), None) if dtype == "auto" else None
            found[name] = had or precision(dtype, device)
    return found


def _recorded(trials: Sequence[Trial], name: str) -> Iterator[Precision]:
    """What the runs of a recipe's trials were trained in, those that are done first."""
    mine = [trial for trial in trials if trial.recipe.name == name and trial.run is not None]
    for trial in sorted(mine, key=lambda trial: not trial.done):
        assert trial.run is not None
        stages: dict[str, Any] = trial.run.manifest().get("stages", {})
        for stage in ("retrain", "search"):
            if record := stages.get(stage, {}).get("device"):
                yield cast(Precision, recorded_precision(record))
