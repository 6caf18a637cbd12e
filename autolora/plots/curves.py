"""Learning curves: ``save_png({"autolora": [curve of seed 0, …]}, path, title="…", looks=styles(methods))``.

A curve is a sequence of (step, loss). A method's runs are thin lines; a thick one is their mean at the steps that all
of them logged. Long logs are averaged over windows of steps. A loss that is not a finite number is a gap.
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
_WIDE_RANGE = 30  # largest / smallest loss from which on the axis is logarithmic


def mean_curve(curves: Sequence[Curve]) -> list[tuple[float, float]]:
    """The mean at each step that all the curves have.

    Args:
        curves: Of one method's runs.
    """
    tables = [dict(curve) for curve in curves]
    common = [step for step, _ in curves[0] if all(step in table for table in tables)] if curves else []
    return [(step, math.fsum(table[step] for table in tables) / len(tables)) for step in common]


def save_png(curves: Mapping[str, Sequence[Curve]], path: Path, *, title: str, looks: Mapping[str, Style]) -> None:
    """Write the figure; labels are drawn in their order.

    Args:
        curves: The runs of each method, by its label.
        path: The PNG file.
        title: Of the figure.
        looks: The style of each label.

    Raises:
        UserError: There is no curve.
    """
    if not any(len(curve) for runs in curves.values() for curve in runs):
        raise UserError("there are no learning curves to draw")
    save(_figure(curves, title, looks), path)


def _figure(curves: Mapping[str, Sequence[Curve]], title: str, looks: Mapping[str, Style]) -> Figure:
    from matplotlib.ticker import MaxNLocator

    columns = legend_columns(list(curves), WIDTH)
    figure, axes = new_axes(len(curves), columns)
    for label, runs in curves.items():
        _draw(axes, label, runs, looks[label])
    values = [value for runs in curves.values() for curve in runs for _, value in curve if math.isfinite(value)]
    if values and min(values) > 0 and max(values) > _WIDE_RANGE * min(values):
        axes.set_yscale("log")
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    axes.set_xlabel("step", fontsize=9)
    axes.set_ylabel("loss", fontsize=9)
    axes.set_title(safe.label(title), fontsize=10, loc="left")
    figure.legend(loc="lower center", ncols=columns, frameon=False, fontsize=8, handlelength=2.4)
    return figure


def _draw(axes: Axes, label: str, runs: Sequence[Curve], look: Style) -> None:
    if len(runs) > 1:
        for curve in runs:
            steps, values = _coordinates(curve)
            axes.plot(steps, values, color=look.colour, linestyle=look.line, linewidth=0.6, alpha=0.3, zorder=2)
    steps, values = _coordinates(mean_curve(runs))
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


def _coordinates(curve: Curve) -> tuple[list[float], list[float]]:
    """Steps and values of at most `MOST_POINTS` points: means of windows of as many consecutive ones as it takes."""
    size = max(1, math.ceil(len(curve) / MOST_POINTS))
    windows = [curve[start : start + size] for start in range(0, len(curve), size)]
    means = [[math.fsum(column) / len(window) for column in zip(*window, strict=True)] for window in windows]
    return [step for step, _ in means], [value for _, value in means]
