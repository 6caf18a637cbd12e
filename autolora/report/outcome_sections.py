"""The sections of a report that are about training and its outcome: learning curves, quality against size and cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from autolora.comparison.groups import has_score
from autolora.plots import curves, pareto
from autolora.plots.curves import Curve
from autolora.plots.pareto import Point
from autolora.report.blocks import Block, Figure, Gallery, Text
from autolora.report.run_files import curve, records
from autolora.report.task_runs import TaskRuns
from autolora.runs.results import Result

LOSSES = (  # stage, loss in its log, title
    ("search", "train_loss", "Search: training loss"),
    ("search", "validation_loss", "Search: validation loss"),
    ("retrain", "train_loss", "Retraining: training loss"),
)
_Logs: TypeAlias = dict[tuple[str, str], dict[str, list[Curve]]]  # by stage and loss, then by method
BORROWED = (
    "Seconds and passes are of the run itself. A method that takes its budget from AutoLoRA's run is not charged for "
    "that search."
)
SHARED = "A search that several runs share was made once, and each is charged with it: that is what it costs alone."


def curve_section(task: TaskRuns) -> list[Block]:
    """A figure for each loss that some run has logged."""
    logs = _curves(task)
    figures = []
    for stage, loss, title in LOSSES:
        if found := logs.get((stage, loss)):
            path = task.place(title)
            curves.save_png(found, path, title=title, looks=task.looks)
            figures.append(task.figure(path, "", f"{title.lower()} over the steps, of {', '.join(found)}"))
    heading = task.heading("Learning curves")
    if not figures:
        return [heading, Text("No learning curves: none of these runs has a log.")]
    note = _curve_note(logs)
    if missing := [method for method in task.methods if method not in logs.get(("retrain", "train_loss"), {})]:
        note += f" Without a log of the retraining: {', '.join(missing)}."
    return [heading, Text(note), Gallery(tuple(figures))]


def quality_section(task: TaskRuns) -> list[Block]:
    """Scores against trainable parameters, seconds and passes."""
    against: tuple[tuple[str, str, Callable[[Result], float | None]], ...] = (
        ("parameters", "trainable parameters (beside the head)", lambda run: run.adapter_parameters),
        ("seconds", "seconds (search and retraining)", lambda run: run.total_seconds),
        ("passes", "forward and backward passes (batches)", _passes),
    )
    figures = [figure for word, label, cost in against if (figure := _quality(task, word, label, cost))]
    heading = task.heading("Quality against size and cost")
    if not figures:
        return [heading, Text("No run of this task has a score yet.")]
    every = [run for runs in task.methods.values() for run in runs]
    borrowed = any("sources" in run.manifest for run in every)
    several = any(len(runs) > 1 for runs in task.methods.values())
    note = "Large: the mean over the seeds. Small: the seeds." if several else "One seed of each method."
    note += " Rings mark the Pareto front of the means, which says nothing about significance."
    shared = any(each.manifest.get("stages", {}).get("search", {}).get("shared") for each in every)
    note = " ".join([note, *([BORROWED] if borrowed else []), *([SHARED] if shared else [])])
    return [heading, Text(note), Gallery(tuple(figures))]


def _curve_note(logs: _Logs) -> str:
    runs = [each for found in logs.values() for each in found.values()]
    note = [
        "Thick: the mean over the seeds. Thin: the seeds." if max(map(len, runs)) > 1 else "One seed of each method."
    ]
    if max(len(points) for each in runs for points in each) > curves.MOST_POINTS:
        note.append(
            f"Each point is the mean of consecutive lines of the log, at most {curves.MOST_POINTS} points a curve."
        )
    train, validation = (logs.get(("search", loss), {}) for loss in ("train_loss", "validation_loss"))
    if same := [method for method in train if train[method] == validation.get(method)]:
        note.append(f"The two losses of {', '.join(same)} are one: there is no validation set in its search.")
    return " ".join(note)


def _curves(task: TaskRuns) -> _Logs:
    """A curve for each run that has one. Each log is read once."""
    found: _Logs = {}
    for method, runs in task.methods.items():
        for run in runs:
            logs = {stage: records(run.run, stage) for stage in ("search", "retrain")} if run.run is not None else {}
            for stage, loss, _ in LOSSES:
                if run.run is not None and (points := curve(run.run, logs[stage], loss, stage)):
                    found.setdefault((stage, loss), {}).setdefault(method, []).append(points)
    return found


def _quality(task: TaskRuns, word: str, label: str, cost: Callable[[Result], float | None]) -> Figure | None:
    points = []
    for method, runs in task.methods.items():
        pairs = [(cost(run), run.score) for run in runs if has_score(run)]
        known = tuple((float(x), float(y)) for x, y in pairs if x is not None and y is not None and math.isfinite(x))
        if known:
            points.append(Point(method, known))
    if not points:
        return None
    scored = [run for runs in task.methods.values() for run in runs if run.metric]
    metric, up = (scored[0].metric or "score", scored[0].higher_is_better) if scored else ("score", True)
    better = metric if up else f"{metric} (lower is better)"
    path, title = task.place("quality", word), f"{metric} against {word}"
    pareto.save_png(points, path, x_label=label, y_label=better, title=title, looks=task.looks, higher_is_better=up)
    front = pareto.front(points, higher_is_better=up)
    best = ", ".join(f"{point.label} ({point.mean[1]:.4f} at {point.mean[0]:,.0f})" for point in front)
    return task.figure(path, f"On the front: {best}", f"scatter plot of {title}; on the front: {best}")


def _passes(run: Result) -> float | None:
    if run.forward_passes is None or run.backward_passes is None:
        return None
    return run.forward_passes + run.backward_passes
