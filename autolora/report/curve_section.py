"""The section of a report that has a task's learning curves: ``curve_section(task)``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from autolora.plots import curves
from autolora.plots.curves import MOST_POINTS, MOST_RUNS, Course
from autolora.report.blocks import Block, Gallery, Text
from autolora.report.run_files import Points, loss_curves
from autolora.report.task_runs import TaskRuns
from autolora.runs.results import Result

LOSSES = {  # (stage, loss in its log): title
    ("search", "train_loss"): "Search: training loss",
    ("search", "validation_loss"): "Search: validation loss",
    ("retrain", "train_loss"): "Retraining: training loss",
}
HELD_OUT = "held_out_"  # before the name of what rows say by which weights are chosen
_Logs: TypeAlias = dict[tuple[str, str], dict[str, Course]]  # by stage and loss, then by method


def curve_section(task: TaskRuns) -> list[Block]:
    """A figure for each loss that some run has logged, and for each value of held-out rows."""
    logs = _curves(task)
    figures = []
    for key, title in {**LOSSES, **_chosen_by(logs)}.items():
        if found := logs.get(key):
            path, quantity = task.place(title), key[1].removeprefix(HELD_OUT)
            quantity = quantity if key[1].startswith(HELD_OUT) else "loss"
            curves.save_png(found, path, title=title, looks=task.looks, quantity=quantity)
            figures.append(task.figure(path, "", f"{title.lower()} over the steps, of {', '.join(found)}"))
    heading = task.heading("Learning curves")
    if not figures:
        return [heading, Text("No learning curves: none of these runs has a log.")]
    note = _curve_note(logs)
    if missing := [method for method in task.methods if method not in logs.get(("retrain", "train_loss"), {})]:
        note += f" Without a log of the retraining: {', '.join(missing)}."
    return [heading, Text(note), Gallery(tuple(figures))]


def _chosen_by(logs: _Logs) -> dict[tuple[str, str], str]:
    """Titles of what weights are chosen by."""
    names = (name for stage, name in logs if stage == "retrain" and name.startswith(HELD_OUT))
    return {("retrain", name): f"Retraining: {name.removeprefix(HELD_OUT)} of held-out rows" for name in names}


def _curve_note(logs: _Logs) -> str:
    courses = [each for found in logs.values() for each in found.values()]
    counts = [each.count for each in courses]
    note = ["Thick: the mean over the seeds." if max(counts) > 1 else "One seed of each method."]
    if any(1 < count <= MOST_RUNS for count in counts):
        note.append("Thin: the seeds.")
    if max(counts) > MOST_RUNS:
        note.append(f"Bands: one standard deviation over the seeds, where they are more than {MOST_RUNS}.")
    if max(each.longest for each in courses) > MOST_POINTS:
        note.append(f"Each point is the mean of consecutive lines of the log, at most {MOST_POINTS} points a curve.")
    if any(each.marks for each in courses):
        note.append("Circles: the steps whose weights are kept.")
    train, validation = (logs.get(("search", loss), {}) for loss in ("train_loss", "validation_loss"))
    same = [name for name in train if name in validation and train[name].mean == validation[name].mean]
    if same:
        note.append(f"The two losses of {', '.join(same)} are one: there is no validation set in its search.")
    return " ".join(note)


def _curves(task: TaskRuns) -> _Logs:
    """A course for each method and loss. Each log is read once, and let go before the next one."""
    found: _Logs = {}
    for method, runs in task.methods.items():
        for run in runs:
            for key, points in _points(run):
                found.setdefault(key, {}).setdefault(method, Course()).add(points, _kept(run, key[1]))
        for mine in found.values():
            if method in mine:
                mine[method] = mine[method].reduced
    return found


def _points(result: Result) -> Iterator[tuple[tuple[str, str], Points]]:
    """The curves of one run."""
    if result.run is not None:
        for stage in dict.fromkeys(stage for stage, _ in LOSSES):
            names = [loss for each, loss in LOSSES if each == stage]
            found = loss_curves(result.run, stage, names, HELD_OUT if stage == "retrain" else "")
            yield from (((stage, loss), points) for loss, points in found.items())


def _kept(result: Result, loss: str) -> int | None:
    """The step whose weights a run has kept, where they were chosen by this."""
    kept = result.manifest.get("stages", {}).get("retrain", {}).get("kept") or {}
    return kept.get("step") if kept.get("by") == loss else None
