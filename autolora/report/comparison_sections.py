"""The head of a report: the differences as a forest plot, then parameters, quality and cost in one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from autolora.comparison.effects import Effect, TaskEffects, metric_of
from autolora.comparison.groups import Group, TaskScores
from autolora.comparison.statistics import mean
from autolora.plots import forest, pareto
from autolora.plots.forest import Line
from autolora.plots.pareto import Panel, Point
from autolora.report.blocks import Block, Details, Figure, Gallery, Heading, Items, Text
from autolora.report.drawings import Drawings
from autolora.report.reading import reading, seeds_of

MOST_TASKS = 12  # that are drawn; the tables have them all
MOST_LINES = 40  # of a forest plot: those told apart from chance, then the largest
MOST_FRONTS = 200
MOST_POINTS = 30  # with a name, of a panel: the baseline, the front, then the best; the others are grey
HOW_TO_READ = (
    "Right of zero is better. Filled, with a star: told apart from chance at 5 % after the correction; open: not. An "
    "arrow at the edge goes on beyond it."
)
BORROWED = (
    "Seconds are of the run itself. A method that takes its budget from AutoLoRA's run is not charged for that search."
)
SHARED = "A search that several runs share was made once, and each is charged with it: that is what it costs alone."


def difference_section(found: Sequence[TaskEffects], caption: str, drawings: Drawings) -> list[Block]:
    """A forest plot for each task, the average first, and a sentence of reading; nothing where nothing is compared.

    Args:
        found: See `autolora.comparison.effects`.
        caption: Of the table of differences: intervals, test and correction.
        drawings: Where the figures go.
    """
    if not found:
        return []
    order = _order(found[0].effects)
    drawable = [task for task in found if any(effect.mean is not None for effect in task.effects)]
    figures = tuple(_forest(task, order, drawings) for task in drawable[:MOST_TASKS])
    note = f"{caption}. {HOW_TO_READ}"
    if left := len(drawable) - len(figures):
        note += f" Not drawn, but in the table: {left} more tasks."
    if (most := max(len(task.effects) for task in found)) > MOST_LINES:
        note += f" Drawn are {MOST_LINES} of {most} differences: those told apart from chance, then the largest."
    heading = Heading(2, f"Differences to {found[0].baseline}", drawings.names.new("differences"))
    return [heading, *([Gallery(figures)] if figures else []), Text(reading(found)), *([Text(note)] if figures else [])]


def quality_section(tasks: Sequence[TaskScores], baseline: str | None, drawings: Drawings) -> list[Block]:
    """Scores against trained parameters, marker areas by cost, a panel for each task, the average first.

    Args:
        tasks: See `autolora.comparison.groups`.
        baseline: Whose cost is 1; None for the cheapest method of each task.
        drawings: Where the figure goes.
    """
    heading = Heading(2, "Parameters, quality and cost", drawings.names.new("quality"))
    ordered = sorted(tasks, key=lambda task: not task.is_average)
    panels = [panel for task in ordered if (panel := _panel(task, baseline)).points]
    if not panels:
        return [heading, Text("No run has a score and a number of parameters yet.")]
    shown = panels[:MOST_TASKS]
    unit = f"seconds as a multiple of {f'those of {baseline}' if baseline else 'the least of the task'}"
    path = drawings.place("parameters quality cost")
    pareto.save_png(shown, path, cost=unit, looks=drawings.looks)
    names = ", ".join(panel.title for panel in shown)
    figure = drawings.figure(path, "", f"scatter plots of quality against parameters, with the cost as area: {names}")
    groups = [group for task in tasks if not task.is_average for group in task.groups.values()]
    fronts = tuple(_said(panel) for panel in panels[:MOST_FRONTS])
    grey = max(len(panel.others) for panel in shown)
    more = f" Grey, without a number: up to {grey} more methods, which are in the tables." if grey else ""
    return [
        heading,
        Gallery((figure,)),
        Text(_note(groups) + more),
        Details("Pareto fronts in numbers", (Items(fronts),)),
    ]


def _forest(task: TaskEffects, order: dict[str, int], drawings: Drawings) -> Figure:
    large = sorted(task.effects, key=lambda effect: (not effect.told_apart, -abs(effect.mean or 0.0)))
    effects = sorted(large[:MOST_LINES], key=lambda effect: order.get(effect.method, len(order)))
    lines = [Line(e.method, e.mean, e.low, e.high, e.told_apart) for e in effects]
    unit = f" ({task.unit})" if task.unit else ""
    what = f"difference in {task.metric}{unit}" if task.higher_is_better else f"reduction of {task.metric}{unit}"
    title = f"average of {task.tasks} tasks" if task.is_average else task.task
    path = drawings.place("differences", task.task)
    forest.save_png(lines, path, title=f"{title}, {seeds_of(task)}", x_label=what, baseline=task.baseline)
    said = "; ".join(f"{line.label} {line.said}" for line in lines)
    return drawings.figure(path, "", f"forest plot, {title}, {what}, to {task.baseline}; positive is better: {said}")


def _order(effects: Sequence[Effect]) -> dict[str, int]:
    """The place of each method in every plot: the best first, those without a difference last."""
    known = sorted(effects, key=lambda effect: math.inf if effect.mean is None else -effect.mean)
    return {effect.method: place for place, effect in enumerate(known)}


def _panel(task: TaskScores, baseline: str | None) -> Panel:
    seconds = {method: _seconds(group) for method, group in task.groups.items()}
    known = [value for value in seconds.values() if value]
    unit = (seconds.get(baseline) if baseline else None) or min(known, default=None)
    points = []
    for method, group in task.groups.items():
        cost = seconds[method]
        if runs := _runs(group):
            points.append(Point(method, runs, cost / unit if unit and cost is not None else None))
    return _bounded(Panel(task.task, metric_of(task), tuple(points), task.higher_is_better), baseline)


def _bounded(panel: Panel, baseline: str | None) -> Panel:
    """With at most `MOST_POINTS` that have a name."""
    if len(panel.points) <= MOST_POINTS:
        return panel
    front, sign = {point.label for point in panel.front}, -1 if panel.higher_is_better else 1
    by_worth = sorted(
        panel.points, key=lambda point: (point.label != baseline, point.label not in front, sign * point.mean[1])
    )
    kept = {point.label for point in by_worth[:MOST_POINTS]}
    named = tuple(point for point in panel.points if point.label in kept)
    return replace(panel, points=named, others=tuple(p.mean for p in panel.points if p.label not in kept))


def _runs(group: Group) -> tuple[tuple[float, float], ...]:
    """Parameters and score by seed; over tasks, the means."""
    found = []
    for seed, score in group.scores.items():
        sizes = [run.adapter_parameters for run in group.scored if run.seed == seed]
        known = [float(size) for size in sizes if size is not None]
        if known and len(known) == len(sizes):
            found.append((math.fsum(known) / len(known), score))
    return tuple(found)


def _seconds(group: Group) -> float | None:
    return mean([run.total_seconds for run in group.scored if run.total_seconds is not None])


def _note(groups: Sequence[Group]) -> str:
    several = any(len(group.scores) > 1 for group in groups)
    note = "Numbers: the methods, the best first."
    note += " Large: the mean over the seeds. Small: the seeds within the picture." if several else " One seed of each."
    note += (
        " Area: search and retraining in seconds, relative. An arrow at the edge: a score far beyond the others. The "
        "Pareto front of the means says nothing about significance."
    )
    manifests = [run.manifest for group in groups for run in group.scored]
    borrowed = any("sources" in manifest for manifest in manifests)
    shared = any(manifest.get("stages", {}).get("search", {}).get("shared") for manifest in manifests)
    return " ".join([note, *([BORROWED] if borrowed else []), *([SHARED] if shared else [])])


def _said(panel: Panel) -> str:
    best = ", ".join(f"{point.label} ({point.mean[1]:.4f} at {point.mean[0]:,.0f})" for point in panel.front)
    return f"{panel.title}: On the front: {best}"
