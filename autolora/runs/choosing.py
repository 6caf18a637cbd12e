"""Some of the runs in some order: ``choose(summaries, Wanted(states={"failed"}), "score:desc", 10)``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from autolora.errors import UserError
from autolora.runs.summary import STATES, Summary
from autolora.words import did_you_mean

COLUMNS = {  # what runs are sorted by, and where it is
    **{"run": "path", "size": "parameters", "disk": "size", "age": "created"},
    **{name: name for name in ("state", "recipe", "method", "seed", "stage", "metric", "score", "seconds")},
}
DIRECTIONS = ("asc", "desc")
_FIRST = datetime(1, 1, 2, tzinfo=UTC)  # a day more than there is, for other time zones
_UNITS = {"min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class Wanted:
    """What a run must be; None, or nothing in it: anything.

    Args:
        recipes: Patterns of names, of which one is the recipe's: ``glue-mini/*``.
        methods: Patterns of labels, of which one is the method's; a name alone means all of its labels.
        seeds: Of which one is the run's.
        states: Likewise.
        since: When it was made at the earliest.
        at_least: What its score is at least.
        at_most: And at most.
        tuning: Whether those that only try a setting are among them.
    """

    recipes: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    seeds: frozenset[int] = frozenset()
    states: frozenset[str] = frozenset()
    since: datetime | None = None
    at_least: float | None = None
    at_most: float | None = None
    tuning: bool = False

    def fits(self, run: Summary) -> bool:
        """Whether a run is it.

        Args:
            run: In a line.
        """
        return all(
            (
                self.tuning or not run.tuning,
                not self.recipes or any(fnmatchcase(run.recipe, each) for each in self.recipes),
                not self.methods or any(_is_method(run.method, each) for each in self.methods),
                not self.seeds or run.seed in self.seeds,
                not self.states or run.state in self.states,
                self.since is None or _made_since(run.created, self.since),
                self.at_least is None or (run.score is not None and run.score >= self.at_least),
                self.at_most is None or (run.score is not None and run.score <= self.at_most),
            )
        )


def choose(runs: Sequence[Summary], wanted: Wanted, order: str, limit: int | None) -> list[Summary]:
    """Those that are wanted, in an order; what has no value in its column comes last, whatever the direction.

    Args:
        runs: In any order.
        wanted: See `Wanted`.
        order: A column, as in ``score:desc``; ascending where no direction is said.
        limit: How many at most; None: all.

    Raises:
        UserError: There is no such column or direction.
    """
    column, _, direction = order.partition(":")
    if column not in COLUMNS:
        near = did_you_mean(column, COLUMNS)
        raise UserError(
            f"--sort: there is no column {column!r}{f'; {near}' if near else ''}; there is: {', '.join(COLUMNS)}"
        )
    if direction not in ("", *DIRECTIONS):
        raise UserError(f"--sort: a direction is asc or desc, as in {column}:desc, got {direction!r}")
    field = COLUMNS[column]
    found = sorted((run for run in runs if wanted.fits(run)), key=lambda run: run.path)
    known = [run for run in found if getattr(run, field) not in (None, "")]
    unknown = [run for run in found if getattr(run, field) in (None, "")]
    # an age is the greater, the earlier the run was made
    turned = (direction == "desc") != (column == "age")
    known.sort(key=lambda run: getattr(run, field), reverse=turned)
    return [*known, *unknown][:limit]


def moment(text: str, now: datetime) -> datetime:
    """A time as people say it.

    Args:
        text: ``2026-11-28``, with a time of day or without (UTC, unless it says another), or how long ago: ``3d``.
        now: Which an age is counted from.

    Raises:
        UserError: It is anything else.
    """
    if found := re.fullmatch(r"(\d{1,6})\s*(min|h|d|w)", text.strip()):
        ago = timedelta(seconds=int(found[1]) * _UNITS[found[2]])
        return now - ago if ago < now - _FIRST else _FIRST
    try:
        said = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UserError(
            f"--since: expected a day, a time or an age, as in 2026-11-28, 2026-11-28T10:00 or 3d, got {text!r} "
            f"(units of age: {', '.join(_UNITS)})"
        ) from None
    return said if said.tzinfo is not None else said.replace(tzinfo=UTC)


def states(words: Sequence[str]) -> frozenset[str]:
    """States by their names.

    Args:
        words: Each a name, or several with commas between them.

    Raises:
        UserError: There is no such state.
    """
    names = [name.strip() for word in words for name in word.split(",")]
    for name in names:
        if name not in STATES:
            near = did_you_mean(name, STATES)
            raise UserError(
                f"--state: there is no state {name!r}{f'; {near}' if near else ''}; there is: {', '.join(STATES)}"
            )
    return frozenset(names)


def record(run: Summary, now: datetime) -> Mapping[str, Any]:
    """A run as data: what is known of it by name.

    Args:
        run: In a line.
        now: Which its age is counted from.
    """
    made = made_at(run.created)
    return {
        "run": run.path,
        "state": run.state,
        "recipe": run.recipe,
        "method": run.method,
        "seed": run.seed,
        "stage": run.stage,
        "metric": run.metric,
        "score": run.score,
        "higher_is_better": run.higher_is_better if run.metric else None,
        "parameters": run.parameters,
        "disk_bytes": run.size,
        "created": run.created or None,
        "age_seconds": None if made is None else round((now - made).total_seconds()),
        "seconds": None if run.seconds is None else round(run.seconds, 2),
        "reason": run.reason,
        "tuning": run.tuning,
    }


def made_at(created: str) -> datetime | None:
    """When a run was made; None where that is not known.

    Args:
        created: Of its summary.
    """
    try:
        said = datetime.fromisoformat(created)
    except ValueError:
        return None
    return said if said.tzinfo is not None else said.replace(tzinfo=UTC)


def _made_since(created: str, since: datetime) -> bool:
    made = made_at(created)
    return made is not None and made >= since


def _is_method(label: str, pattern: str) -> bool:
    return fnmatchcase(label, pattern) or (":" not in pattern and fnmatchcase(label.partition(":")[0], pattern))
