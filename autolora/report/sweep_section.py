"""A sweep in a report: scores against the setting with the most values, a line for each combination of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autolora.comparison.arms import CAUTION, Arm, Arms
from autolora.comparison.effects import metric_of
from autolora.comparison.groups import TaskScores
from autolora.plots import sweep
from autolora.plots.figures import styles
from autolora.plots.sweep import SweepLine
from autolora.recipe.sweeping import written
from autolora.report.blocks import Block, Figure, Gallery, Heading, Text
from autolora.report.drawings import Drawings

MOST_TASKS = 12  # that are drawn; the tables have them all


def sweep_lead(arms: Arms, tasks: Sequence[TaskScores]) -> str:
    """The sentence at the head: what was varied, and over how many seeds.

    Args:
        arms: Of the sweep.
        tasks: See `autolora.comparison.groups`.
    """
    counts = {len(group.scores) for task in tasks if not task.is_average for group in task.groups.values()}
    seeds = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else f"{max(counts, default=0)}"
    points = len(arms.arms) // max(1, len(arms.methods))
    return (
        f"A sweep of {' and '.join(arms.fields)}: {points} settings of {', '.join(arms.methods)}, over {seeds} "
        f"seed{'' if seeds == '1' else 's'}."
    )


def sweep_section(arms: Arms, tasks: Sequence[TaskScores], drawings: Drawings) -> list[Block]:
    """A figure for each task, the average first.

    Args:
        arms: Of the sweep.
        tasks: See `autolora.comparison.groups`.
        drawings: Where the figures go.
    """
    ordered = sorted(tasks, key=lambda task: not task.is_average)
    drawable = [task for task in ordered if any(group.scores for group in task.groups.values())]
    figures = tuple(_figure(arms, task, drawings) for task in drawable[:MOST_TASKS])
    field = varied(arms)
    heading = Heading(2, f"Scores by {field}", drawings.names.new("sweep"))
    note = "Lines: the mean over the seeds, with the standard deviation. Small points: the seeds."
    return [heading, *([Gallery(figures)] if figures else []), Text(note), Text(CAUTION)]


def varied(arms: Arms) -> str:
    """The setting that stands on the horizontal axis: that with the most values, the first of equals.

    Args:
        arms: Of the sweep.
    """
    counts = {field: len({arm.settings.get(field) for arm in arms.arms.values()}) for field in arms.fields}
    return max(counts, key=lambda field: counts[field])


def _figure(arms: Arms, task: TaskScores, drawings: Drawings) -> Figure:
    field = varied(arms)
    lines: dict[str, dict[float | str, tuple[float, ...]]] = {}
    values: dict[float | str, None] = {}
    for arm in arms.arms.values():
        value = _place(arm.point.values.get(field))
        values[value] = None
        group = task.groups.get(arm.label)
        if group is not None and group.scores:
            lines.setdefault(_others(arm, field, arms), {})[value] = tuple(group.scores.values())
    drawn = [SweepLine(label, scores) for label, scores in lines.items()]
    metric, title = metric_of(task), "average" if task.is_average else task.task
    y_label = metric if task.higher_is_better else f"{metric} (lower is better)"
    path = drawings.place("sweep", task.task)
    looks = styles([line.label for line in drawn])
    sweep.save_png(drawn, path, x_label=field, y_label=y_label, title=title, values=[*values], looks=looks)
    said = "; ".join(f"{line.label}: {_said(line)}" for line in drawn)
    return drawings.figure(path, "", f"{title}: {metric} against {field}: {said}")


def _said(line: SweepLine) -> str:
    return ", ".join(f"{sum(scores) / len(scores):.4f} at {value}" for value, scores in line.scores.items())


def _place(value: Any) -> float | str:
    """A number as such; anything else by what it is called."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return written(value)


def _others(arm: Arm, field: str, arms: Arms) -> str:
    """What tells one line from another: the method, where there are several, and the other settings."""
    method = [arm.method] if len(arms.methods) > 1 else []
    settings = [f"{name}={text}" for name, text in arm.settings.items() if name != field]
    return " ".join([*method, *settings]) or arm.method
