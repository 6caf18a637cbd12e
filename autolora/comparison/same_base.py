"""Whether runs that stand in one table were begun on one pretrained model: ``check_bases(trials)``.

A folder's weights may be replaced in place, and a hub's model have a new revision; the recipe says neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from autolora.errors import UserError
from autolora.runs.base import Base, differences, read_base

if TYPE_CHECKING:
    from autolora.comparison.plan import Trial
    from autolora.runs.store import Run


class OneBase:
    """Remembers the pretrained model of the first run of each group."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[Path, Base]] = {}

    def __call__(self, run: Path, group: str) -> None:
        """Make sure that a run was begun on the model of its group's first; runs of early versions do not say.

        Args:
            run: The folder of one.
            group: Of runs that stand in one table.

        Raises:
            UserError: It was begun on another; the message says by what it differs.
        """
        if (found := read_base(run)) is None:
            return
        path, known = self._first.setdefault(group, (run, found))
        if other := ", ".join(differences(known, found)):
            raise UserError(
                f"{path} and {run} cannot stand in one table: the latter was begun on another pretrained model, by "
                f"{other}; give another --output, or remove what is of the former model with: autolora runs rm {path}"
            )


def check_bases(trials: Iterable[tuple[Trial, Run | None]], known: OneBase | None = None) -> None:
    """Make sure that trials of one recipe were begun on one pretrained model, those of tuning among them.

    Args:
        trials: Each with its run, if it has one.
        known: The models of trials that were checked before.

    Raises:
        UserError: One was begun on another.
    """
    check = known or OneBase()
    for trial, run in trials:
        if run is not None:
            model = trial.recipe.model.model_dump_json(exclude={"target_modules", "head"})
            check(run.path, f"{trial.recipe.name} {model}")
