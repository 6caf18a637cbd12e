"""The section of a report that has a task's learning curves: ``curve_section(task)``."""

from __future__ import annotations

from typing import TypeAlias

from autolora.plots import curves
from autolora.plots.curves import Curve
from autolora.report.blocks import Block, Gallery, Text
from autolora.report.run_files import curve, records
from autolora.report.task_runs import TaskRuns

LOSSES = (  # stage, loss in its log, title
    ("search", "train_loss", "Search: training loss"),
    ("search", "validation_loss", "Search: validation loss"),
    ("retrain", "train_loss", "Retraining: training loss"),
)
_Logs: TypeAlias = dict[tuple[str, str], dict[str, list[Curve]]]  # by stage and loss, then by method


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
