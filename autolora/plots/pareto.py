"""Parameters, quality and cost in one picture: ``save_png(panels, path, cost="…", looks=styles(methods))``.

A panel is a task: parameters to the right (logarithmic), the score upwards, the area of a marker the cost. A marker is
a method: the mean over its seeds, which are small points of the same colour. The dashed line joins the Pareto front: no
other method's means are as good in both parameters and score and better in one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolora import safe
from autolora.errors import UserError
from autolora.plots.figures import WIDTH, Style, inner_limits, legend_columns, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_UNIT, _LARGEST, _SMALLEST, _UNKNOWN = 45.0, 420.0, 8.0, 30.0  # areas of markers, in points²
_COLUMNS, _WIDTH, _HEIGHT = 3, 3.7, 2.9  # panels beside each other; inches of one, as all that follows
_LEFT, _RIGHT, _ABOVE, _BELOW, _ENTRY = 0.68, 0.14, 0.32, 0.5, 0.2

_TICKS = ((5, (1, 1.5, 2, 3, 5, 7)), (30, (1, 2, 5)))  # of each power of ten, by the ratio of the axis's ends


@dataclass(frozen=True)
class Point:
    """One method.

    Args:
        label: Its name in the legend.
        runs: Parameters (fewer are better) and score of each of its runs.
        cost: In the unit of the figure; None where it is not known.
    """

    label: str
    runs: tuple[tuple[float, float], ...]
    cost: float | None = None

    @property
    def mean(self) -> tuple[float, float]:
        """The mean parameters and the mean score."""
        sizes, scores = zip(*self.runs, strict=True)
        return math.fsum(sizes) / len(sizes), math.fsum(scores) / len(scores)


@dataclass(frozen=True)
class Panel:
    """One task.

    Args:
        title: Above it.
        metric: Of the scores.
        points: With different labels.
        higher_is_better: Of the metric.
    """

    title: str
    metric: str
    points: tuple[Point, ...]
    higher_is_better: bool = True

    @property
    def front(self) -> list[Point]:
        """Its Pareto front."""
        return front(self.points, higher_is_better=self.higher_is_better)


def front(points: Sequence[Point], *, higher_is_better: bool = True) -> list[Point]:
    """The points that no other dominates, by parameters.

    Args:
        points: With different labels.
        higher_is_better: Of the scores.
    """
    sign = 1.0 if higher_is_better else -1.0
    gains = {point.label: (point.mean[0], sign * point.mean[1]) for point in points}
    found = [point for point in points if not any(_dominates(gain, gains[point.label]) for gain in gains.values())]
    return sorted(found, key=lambda point: point.mean)


def _dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Of (parameters, gain)."""
    return one[0] <= other[0] and one[1] >= other[1] and one != other


def save_png(panels: Sequence[Panel], path: Path, *, cost: str, looks: Mapping[str, Style]) -> None:
    """Write the figure.

    Args:
        panels: One or more, beside each other.
        path: The PNG file.
        cost: What the costs are, with their unit.
        looks: The style of each label.

    Raises:
        UserError: There is no point.
    """
    if not any(panel.points for panel in panels):
        raise UserError("there are no scores to draw")
    save(_figure(panels, cost, looks), path)


def _figure(panels: Sequence[Panel], cost: str, looks: Mapping[str, Style]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(point.label for panel in panels for point in panel.points))
    costs = [point.cost for panel in panels for point in panel.points if point.cost is not None]
    unit = min(_UNIT, _LARGEST / max(costs, default=1.0))  # area of a cost of 1
    columns = min(_COLUMNS, len(panels))
    rows, width = -(-len(panels) // columns), max(WIDTH, columns * _WIDTH)
    entries = legend_columns(labels, width)
    legend = (-(-len(labels) // entries) + 2.2) * _ENTRY
    height = rows * _HEIGHT + legend
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    each = width / columns
    for i, panel in enumerate(panels):
        left, bottom = i % columns * each + _LEFT, height - (i // columns + 1) * _HEIGHT + _BELOW
        size = ((each - _LEFT - _RIGHT) / width, (_HEIGHT - _ABOVE - _BELOW) / height)
        _panel(figure.add_axes((left / width, bottom / height, *size)), panel, unit, looks)
    methods = [_handle(looks[label], math.sqrt(_UNKNOWN), label) for label in labels]
    place: dict[str, Any] = {"frameon": False, "fontsize": 8, "handlelength": 1.6}
    above, below = (0.5, 2 * _ENTRY / height), (0.5, 0.0)
    figure.legend(handles=methods, loc="lower center", ncols=entries, bbox_to_anchor=above, **place)
    figure.legend(handles=_sizes(costs, unit, cost), loc="lower center", ncols=6, bbox_to_anchor=below, **place)
    return figure


def _panel(axes: Axes, panel: Panel, unit: float, looks: Mapping[str, Style]) -> None:
    low, high = inner_limits([point.mean[1] for point in panel.points])
    scores = [score for point in panel.points if low <= point.mean[1] <= high for _, score in point.runs]
    low, high = min(scores), max(scores)
    margin = 0.1 * (high - low) or 0.01
    axes.set_ylim(low - margin, high + margin)
    best = [point.mean for point in panel.front]
    axes.plot(*zip(*best, strict=True), drawstyle="steps-post", color="0.55", linewidth=1, linestyle="--", zorder=1)
    for point in sorted(panel.points, key=lambda point: -(point.cost or 0)):  # the small above the large
        _draw(axes, point, looks[point.label], unit)
    _horizontal(axes, [size for point in panel.points for size, _ in point.runs])
    metric = safe.label(panel.metric)
    axes.set_ylabel(metric if panel.higher_is_better else f"{metric} (lower is better)", fontsize=8)
    axes.set_xlabel("trained parameters, without the head", fontsize=8)
    axes.set_title(safe.label(panel.title), fontsize=9, loc="left")
    axes.tick_params(labelsize=7.5)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw(axes: Axes, point: Point, look: Style, unit: float) -> None:
    x, y = point.mean
    area = _UNKNOWN if point.cost is None else max(_SMALLEST, unit * point.cost)
    low, high = axes.get_ylim()
    if not low <= y <= high:
        edge, above = (low, 1) if y < low else (high, -1)
        arrow = {"arrowstyle": "-|>", "color": look.colour, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)}
        text: dict[str, Any] = {"fontsize": 7, "color": "0.25", "va": "center", "textcoords": "offset points"}
        axes.annotate(f"{y:.3f}", (x, edge), (9, 13 * above), arrowprops=arrow, **text)
        return
    if len(point.runs) > 1:
        xs, ys = zip(*point.runs, strict=True)
        axes.scatter(xs, ys, s=6, color=look.colour, alpha=0.4, linewidths=0, zorder=2)
    axes.scatter(
        x, y, s=area, color=look.colour, alpha=0.85, marker=look.marker, edgecolors="white", linewidths=0.6, zorder=4
    )


def _horizontal(axes: Axes, sizes: Sequence[float]) -> None:
    """A logarithmic axis; where some method trains nothing beside the head, one that has a zero."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, NullLocator

    positive = [size for size in sizes if size > 0]
    if not positive:
        return
    low, high = min(positive), max(sizes)
    if min(sizes) > 0:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.4, high * 1.4)
        steps = next((steps for ratio, steps in _TICKS if high < ratio * low), (1,))
        axes.xaxis.set_major_locator(LogLocator(subs=steps))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xscale("symlog", linthresh=low)
        axes.set_xlim(-0.3 * low, high * 1.4)
        powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
        axes.set_xticks([0, *(10**power for power in powers)])
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _handle(look: Style, size: float, label: str) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="", marker=look.marker, markersize=size, color=look.colour, label=safe.label(label))


def _sizes(costs: Sequence[float], unit: float, cost: str) -> list[Line2D]:
    """The legend of the areas: powers of two from the least cost to the greatest, at most four; and the front."""
    from matplotlib.lines import Line2D

    front = Line2D([], [], color="0.55", linestyle="--", linewidth=1, label="Pareto front")
    known = [value for value in costs if value > 0]
    if not known:
        return [front]
    first, last = math.floor(math.log2(min(known))), math.ceil(math.log2(max(known)))
    step = max(1, math.ceil((last - first) / 3))
    shown = [2.0**power for power in range(first, last + 1, step)]
    grey = Style("0.6", "o", "-")
    areas = [_handle(grey, math.sqrt(max(_SMALLEST, unit * value)), f"{value:g}×") for value in shown]
    return [front, Line2D([], [], linestyle="", label=f"area: {cost}"), *areas]
