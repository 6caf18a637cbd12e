"""Learning curves: ``save_png({"autolora": [curve of seed 0, …]}, path, title="…", looks=styles(methods))``.

A curve is a sequence of (step, loss). A method's runs are thin lines, or, of more than `MOST_RUNS`, a band of one
standard deviation; a thick line is their mean at the steps that all of them logged. Long logs are averaged over windows
of steps. A loss that is not a finite number is a gap. A step that is marked has a circle at its run's value. `Course`
takes a method's runs one after the other and holds none of more than `MOST_RUNS`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autolora import safe
from autolora.errors import UserError
from autolora.plots.figures import WIDTH, Style, legend_columns, new_axes, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float]]
MOST_POINTS = 60  # of a line; the noise of more hides the other lines
MOST_RUNS = 8  # of a method, that are drawn each
_WIDE_RANGE = 30  # largest / smallest loss from which on the axis is logarithmic


class Course:
    """The runs of one method, as they are drawn: the mean and the standard deviation at each step, and few runs.

    With x the loss of the n-th run at a step, the mean m and the sum s of squared deviations grow by
    m' = m + (x - m) / n and s' = s + (x - m) (x - m') (Welford).
    """

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0  # points of a run, before they are averaged over windows
        self._steps: dict[float, tuple[int, float, float]] = {}  # runs, mean, sum of squares
        self._runs: list[Curve] = []
        self.marks: list[tuple[float, float]] = []

    def add(self, curve: Curve, mark: float | None = None) -> None:
        """Take in one run.

        Args:
            curve: Its points.
            mark: A step of them that is marked.
        """
        self.marks += [(step, value) for step, value in curve if step == mark and math.isfinite(value)]
        self.count, self.longest = self.count + 1, max(self.longest, len(curve))
        for step, value in curve:
            n, mean, squares = self._steps.get(step, (0, 0.0, 0.0))
            moved = mean + (value - mean) / (n + 1)
            self._steps[step] = n + 1, moved, squares + (value - mean) * (value - moved)
        if self.count <= MOST_RUNS:
            self._runs.append(windows(curve))
        else:
            self._runs.clear()

    @property
    def runs(self) -> list[Curve]:
        """Each of them, where there are at most `MOST_RUNS`."""
        return self._runs

    @property
    def mean(self) -> list[tuple[float, float]]:
        """At each step that all runs have."""
        return [(step, mean) for step, (n, mean, _) in self._steps.items() if n == self.count]

    @property
    def spread(self) -> list[tuple[float, float]]:
        """The standard deviation over the runs (over n - 1) at those steps, of two runs or more."""
        known = [(step, squares) for step, (n, _, squares) in self._steps.items() if n == self.count]
        return [(step, math.sqrt(squares / (self.count - 1))) for step, squares in known]

    @property
    def reduced(self) -> Course:
        """The same with no more points than are drawn."""
        found = Course()
        found.count, found.longest, found._runs, found.marks = self.count, self.longest, self._runs, self.marks
        spread = windows(self.spread) if self.count > 1 else []
        scale = self.count - 1
        for place, (step, mean) in enumerate(windows(self.mean)):
            found._steps[step] = self.count, mean, scale * spread[place][1] ** 2 if spread else 0.0
        return found

    @property
    def points(self) -> list[float]:
        """Every loss that is drawn as a line."""
        return [value for curve in (*self._runs, self.mean, self.marks) for _, value in curve if math.isfinite(value)]


def course(curves: Sequence[Curve]) -> Course:
    """The course of runs that are at hand.

    Args:
        curves: Of one method's runs.
    """
    found = Course()
    for curve in curves:
        found.add(curve)
    return found


def mean_curve(curves: Sequence[Curve]) -> list[tuple[float, float]]:
    """The mean at each step that all the curves have.

    Args:
        curves: Of one method's runs.
    """
    return course(curves).mean if curves else []


def save_png(
    curves: Mapping[str, Course | Sequence[Curve]],
    path: Path,
    *,
    title: str,
    looks: Mapping[str, Style],
    quantity: str = "loss",
) -> None:
    """Write the figure; labels are drawn in their order.

    Args:
        curves: The runs of each method, by its label.
        path: The PNG file.
        title: Of the figure.
        looks: The style of each label.
        quantity: What the curves are of.

    Raises:
        UserError: There is no curve.
    """
    courses = {label: runs if isinstance(runs, Course) else course(runs) for label, runs in curves.items()}
    if not any(each.longest for each in courses.values()):
        raise UserError("there are no learning curves to draw")
    save(_figure(courses, title, looks, quantity), path)


def _figure(curves: Mapping[str, Course], title: str, looks: Mapping[str, Style], quantity: str = "loss") -> Figure:
    from matplotlib.ticker import MaxNLocator

    columns = legend_columns(list(curves), WIDTH)
    figure, axes = new_axes(len(curves), columns)
    for label, runs in curves.items():
        _draw(axes, label, runs, looks[label])
    values = [value for runs in curves.values() for value in runs.points]
    if values and min(values) > 0 and max(values) > _WIDE_RANGE * min(values):
        axes.set_yscale("log")
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    axes.set_xlabel("step", fontsize=9)
    axes.set_ylabel(safe.label(quantity), fontsize=9)
    axes.set_title(safe.label(title), fontsize=10, loc="left")
    figure.legend(loc="lower center", ncols=columns, frameon=False, fontsize=8, handlelength=2.4)
    return figure


def _draw(axes: Axes, label: str, runs: Course, look: Style) -> None:
    if runs.count > 1:
        for curve in runs.runs:
            steps, values = _columns(curve)
            axes.plot(steps, values, color=look.colour, linestyle=look.line, linewidth=0.6, alpha=0.3, zorder=2)
    steps, values = _coordinates(runs.mean)
    if runs.count > MOST_RUNS:
        _, spread = _coordinates(runs.spread)
        low, high = ([v + sign * s for v, s in zip(values, spread, strict=True)] for sign in (-1, 1))
        axes.fill_between(steps, low, high, color=look.colour, alpha=0.15, linewidth=0, zorder=1)
    marker = look.marker if len(steps) == 1 else None  # a line of one point cannot be seen
    axes.plot(
        steps,
        values,
        color=look.colour,
        linestyle=look.line,
        linewidth=1.5,
        marker=marker,
        label=safe.label(label),
        zorder=3,
    )
    if runs.marks:
        steps, values = _columns(runs.marks)
        axes.scatter(
            steps,
            values,
            s=42,
            marker="o",
            facecolors="none",
            edgecolors=look.colour,
            linewidths=1.2,
            alpha=0.9 if runs.runs else 0.3,
            zorder=4,
        )


def windows(curve: Curve) -> list[tuple[float, float]]:
    """At most `MOST_POINTS` points: means of windows of as many consecutive ones as it takes.

    Args:
        curve: Of any length.
    """
    size = max(1, math.ceil(len(curve) / MOST_POINTS))
    parts = [curve[start : start + size] for start in range(0, len(curve), size)]
    means = [[math.fsum(column) / len(part) for column in zip(*part, strict=True)] for part in parts]
    return [(step, value) for step, value in means]


def _coordinates(curve: Curve) -> tuple[list[float], list[float]]:
    """Steps and values of its windows."""
    return _columns(windows(curve))


def _columns(curve: Curve) -> tuple[list[float], list[float]]:
    return [step for step, _ in curve], [value for _, value in curve]
