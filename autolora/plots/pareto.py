"""Quality against what it costs: ``save_png(points, path, x_label=…, y_label=…, title=…, looks=styles(methods))``.

A point is a method: the mean over its runs, large, with the runs as small points of the same colour. Methods on the
Pareto front have a ring and are joined by steps: no other method's means are as good in both and better in one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autolora.errors import UserError
from autolora.plots.figures import Style, new_axes, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LARGEST, _SMALLEST = 75, 28  # areas of the markers, in points²
_WIDE_RANGE = 8  # largest / smallest cost from which on the axis is logarithmic


@dataclass(frozen=True)
class Point:
    """One method.

    Args:
        label: Its name in the legend.
        runs: Cost (less is better) and score of each of its runs.
    """

    label: str
    runs: tuple[tuple[float, float], ...]

    @property
    def mean(self) -> tuple[float, float]:
        """The mean cost and the mean score."""
        costs, scores = zip(*self.runs, strict=True)
        return math.fsum(costs) / len(costs), math.fsum(scores) / len(scores)


def front(points: Sequence[Point], *, higher_is_better: bool = True) -> list[Point]:
    """The points that no other dominates, by cost.

    Args:
        points: With different labels.
        higher_is_better: Of the scores.
    """
    sign = 1.0 if higher_is_better else -1.0
    gains = {point.label: (point.mean[0], sign * point.mean[1]) for point in points}
    found = [point for point in points if not any(_dominates(gain, gains[point.label]) for gain in gains.values())]
    return sorted(found, key=lambda point: point.mean)


def _dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Of (cost, gain)."""
    return one[0] <= other[0] and one[1] >= other[1] and one != other


def save_png(
    points: Sequence[Point],
    path: Path,
    *,
    x_label: str,
    y_label: str,
    title: str,
    looks: Mapping[str, Style],
    higher_is_better: bool = True,
) -> None:
    """Write the figure.

    Args:
        points: With different labels.
        path: The PNG file.
        x_label: What the cost is, with its unit.
        y_label: The metric.
        title: Of the figure.
        looks: The style of each label.
        higher_is_better: Of the metric.

    Raises:
        UserError: There is no point.
    """
    if not points:
        raise UserError("there are no scores to draw")
    figure = _figure(points, looks, front(points, higher_is_better=higher_is_better))
    axes = figure.axes[0]
    axes.set_xlabel(x_label, fontsize=9)
    axes.set_ylabel(y_label, fontsize=9)
    axes.set_title(title, fontsize=10, loc="left")
    save(figure, path)


def _figure(points: Sequence[Point], looks: Mapping[str, Style], best: Sequence[Point]) -> Figure:
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    figure, axes = new_axes(len(points) + 1)
    means = [point.mean for point in best]
    xs, ys = zip(*means, strict=True)
    axes.plot(xs, ys, drawstyle="steps-post", color="0.55", linewidth=1, linestyle="--", zorder=1)
    for index, point in enumerate(points):
        size = _LARGEST - (_LARGEST - _SMALLEST) * index / len(points)  # what coincides shows below the others
        _draw(axes, point, looks[point.label], size, on_front=point in best)
    costs = [cost for point in points for cost, _ in point.runs]
    if min(costs) > 0 and max(costs) > _WIDE_RANGE * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(0.08)
    _legend(figure, axes)
    return figure


def _draw(axes: Axes, point: Point, look: Style, size: float, *, on_front: bool) -> None:
    x, y = point.mean
    if len(point.runs) > 1:
        xs, ys = zip(*point.runs, strict=True)
        axes.scatter(xs, ys, s=9, color=look.colour, alpha=0.45, linewidths=0, zorder=2)
    if on_front:
        axes.scatter(x, y, s=190, facecolors="none", edgecolors="0.35", linewidths=1, zorder=3)
    label, marker = point.label, look.marker
    axes.scatter(
        x, y, s=size, color=look.colour, marker=marker, edgecolors="white", linewidths=0.6, zorder=4, label=label
    )


def _legend(figure: Figure, axes: Axes) -> None:
    from matplotlib.lines import Line2D

    handles, _ = axes.get_legend_handles_labels()
    ring = Line2D(
        [],
        [],
        color="0.55",
        linestyle="--",
        linewidth=1,
        marker="o",
        markersize=9,
        label="Pareto front",
        markerfacecolor="none",
        markeredgecolor="0.35",
    )
    figure.legend(handles=[*handles, ring], loc="lower center", ncols=3, frameon=False, fontsize=8, handlelength=2.4)
