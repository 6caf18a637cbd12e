"""The runs below a folder, oldest first, opened: ``runs(root)``, ``same_runs(root, recipe)``, ``newest(root)``.

Which there are, and which of them are worth opening, is read from the index (`autolora.runs.index`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from autolora.console import warn
from autolora.errors import UserError
from autolora.recipe.method import label
from autolora.recipe.schema import Recipe
from autolora.runs.index import summaries
from autolora.runs.status import STAGES
from autolora.runs.store import Run
from autolora.runs.summary import UNREADABLE, Summary


def runs(
    root: Path, recipe_name: str | None = None, wanted: Callable[[Summary], bool] = lambda summary: True
) -> list[Run]:
    """All runs below `root`, oldest first; a damaged one is left out, and named; so is what only tries a setting.

    Args:
        root: Where runs are.
        recipe_name: Only runs of this recipe (``NAME/_tuning``: those that try a setting for it); None for all.
        wanted: Which of those that can be read are opened.

    Raises:
        UserError: The newest run is damaged.
    """
    opened = []
    for summary, last in _listed(root, recipe_name):
        if summary.state != UNREADABLE and not wanted(summary):
            continue
        try:
            opened.append(Run.open(root / summary.path))
        except UserError as error:
            if last:
                raise
            _leave_out(str(error))
    return opened


def newest(root: Path, recipe_name: str | None = None) -> tuple[Run, int] | None:
    """The newest run below `root`, and how many there are that can be read; None where there is none.

    Args:
        root: Where runs are.
        recipe_name: As in `runs`.

    Raises:
        UserError: It is damaged.
    """
    listed = _listed(root, recipe_name)
    if not listed:
        return None
    run = Run.open(root / listed[-1][0].path)
    for summary, _ in listed:
        if summary.state == UNREADABLE:
            _leave_out(str(summary.reason))
    return run, sum(summary.state != UNREADABLE for summary, _ in listed)


def at_stage(root: Path, stage: str) -> list[Run]:
    """The runs below `root` that have begun a stage, and not ended it or one before it well, oldest first.

    Args:
        root: Where runs are.
        stage: One of `autolora.runs.status.STAGES`.

    Raises:
        UserError: The newest run is damaged.
    """
    until = STAGES[: STAGES.index(stage) + 1]

    def is_at(summary: Summary) -> bool:
        states = {name: summary.stages.get(name, "success") for name in until}
        return stage in summary.stages and any(state != "success" for state in states.values())

    return runs(root, wanted=is_at)


def _listed(root: Path, recipe_name: str | None) -> Sequence[tuple[Summary, bool]]:
    """The runs, and whether each is the last."""
    found = [each for each in summaries(root, recipe_name) if recipe_name is not None or not each.tuning]
    return [(each, place == len(found)) for place, each in enumerate(found, start=1)]


@cache
def _leave_out(why: str) -> None:
    """Say it, once in a process."""
    warn(f"note: a run is left out: {why}")


def same_runs(root: Path, recipe: Recipe) -> list[Run]:
    """The runs below `root` of exactly this resolved recipe, oldest first.

    Args:
        root: Where runs are.
        recipe: With its method and seed.
    """
    mine = (recipe.name, label(recipe.method), recipe.seed)

    def alike(summary: Summary) -> bool:
        return (summary.recipe, summary.method, summary.seed) == mine

    return [run for run in runs(root, recipe.name, alike) if run.recipe == recipe]
