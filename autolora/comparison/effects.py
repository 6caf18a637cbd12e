"""The differences of a comparison as they are drawn and read: ``effects(rows, scores_by_task(results))``.

The table of differences (`autolora.comparison.summary`) keeps the metric's own sign. Here it is turned where lower
values are the better ones, so that positive always means better. Nothing is computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autolora.comparison.groups import TaskScores
from autolora.comparison.statistics import NO_SPREAD, TOO_FEW
from autolora.metrics.base import Score
from autolora.tables import Cell, Row

BETTER, WORSE = "better", "worse"


@dataclass(frozen=True)
class Effect:
    """A method against the baseline on one task, or on the average; positive is better.

    Args:
        method: Its label.
        mean: Of the paired differences, in the unit of the metric; None where no seed has both.
        low: The lower end of its interval; None where there is none, of too few seeds for instance.
        high: The upper end.
        seeds: How many both have.
        verdict: As in the table.
    """

    method: str
    mean: float | None
    low: float | None
    high: float | None
    seeds: int
    verdict: str

    @property
    def told_apart(self) -> bool:
        """Whether the difference is more than chance, after the correction."""
        return self.verdict in (BETTER, WORSE)

    @property
    def untested(self) -> bool:
        """Whether there is no test of it."""
        return self.verdict in (TOO_FEW, NO_SPREAD)


@dataclass(frozen=True)
class TaskEffects:
    """Every other method against the baseline.

    Args:
        task: Its name, or what the average is called.
        tasks: How many tasks it is the average of; 1 for a task.
        baseline: A method's label.
        metric: Its name, or those of the tasks.
        unit: From where to where its values go, "" where that is not known.
        higher_is_better: Of the metric, before the differences were turned.
        effects: In the order of the table.
    """

    task: str
    tasks: int
    baseline: str
    metric: str
    unit: str
    higher_is_better: bool
    effects: tuple[Effect, ...]

    @property
    def is_average(self) -> bool:
        """Whether it is over tasks."""
        return self.tasks > 1

    @property
    def seeds(self) -> int:
        """The most that some difference is over."""
        return max((effect.seeds for effect in self.effects), default=0)


def effects(rows: Sequence[Row], tasks: Sequence[TaskScores]) -> list[TaskEffects]:
    """The table's rows by task, the average first.

    Args:
        rows: Of the table of differences.
        tasks: What it was made of.
    """
    single = [task for task in tasks if not task.is_average]
    found = []
    for task in sorted(tasks, key=lambda task: not task.is_average):
        sign, mine = 1 if task.higher_is_better else -1, [row for row in rows if row["task"] == task.task]
        if mine:
            metric, unit = _metrics(single) if task.is_average else metric_of(task), _unit(task)
            turned = tuple(_effect(row, sign) for row in mine)
            count, baseline = len(single) if task.is_average else 1, str(mine[0]["baseline"])
            found.append(TaskEffects(task.task, count, baseline, metric, unit, task.higher_is_better, turned))
    return found


def metric_of(task: TaskScores) -> str:
    """The name of the task's metric; "score" where nothing has one.

    Args:
        task: One task, or the average.
    """
    return next((group.metric for group in task.groups.values() if group.metric), "score")


def _metrics(tasks: Sequence[TaskScores]) -> str:
    names = list(dict.fromkeys(map(metric_of, tasks)))
    return names[0] if len(names) == 1 else f"mean of {', '.join(names)}"


def _unit(task: TaskScores) -> str:
    """``0 to 1``, of the metric that methods are compared by; of an average, where its metrics have the same."""
    trials = [trial for group in task.groups.values() for trial in group.scored]
    units = {_range(score) for trial in trials for score in trial.scores if score.name == trial.metric}
    return units.pop() if len(units) == 1 else ""


def _range(score: Score) -> str:
    if score.low is None or score.high is None:
        return "" if score.low is None else f"from {score.low:g}"
    return f"{score.low:g} to {score.high:g}"


def _effect(row: Row, sign: int) -> Effect:
    mean, *ends = (_turned(row[name], sign) for name in ("difference", "low", "high"))
    low, high = ends if sign > 0 else reversed(ends)
    return Effect(str(row["method"]), mean, low, high, int(row["seeds"] or 0), str(row["verdict"]))


def _turned(cell: Cell, sign: int) -> float | None:
    return None if cell is None else sign * float(cell) + 0.0  # + 0.0: no negative zero
