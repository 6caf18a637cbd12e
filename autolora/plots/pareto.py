"""Parameters, quality and cost in one picture: ``save_png(panels, path, cost="…", looks=styles(methods))``.

A panel is a task: parameters to the right (logarithmic), the score upwards, the area of a marker the cost. A marker is
a method: the mean over its seeds, which are small points of the same colour; a number names it in the key, the best
first (`autolora.plots.numbers` finds room for it). The dashed line joins the Pareto front: no other method's means are
as good in both parameters and score and better in one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolora import safe
from autolora.errors import UserError
from autolora.plots.figures import WIDTH, Style, inches, inner_limits, legend_columns, save
from autolora.plots.numbers import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_UNIT, _LARGEST, _SMALLEST, _UNKNOWN = 45.0, 420.0, 14.0, 30.0  # areas of markers, in points²
_COLUMNS, _WIDTH, _HEIGHT = 3, 3.7, 2.9  # panels beside each other; inches of one, as all that follows
_ALONE, _TALL = 5.6, 3.6  # of a panel that has its key beside it
_LEFT, _RIGHT, _ABOVE, _BELOW, _ENTRY, _FOOT = 0.68, 0.14, 0.32, 0.5, 0.2, 0.5

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
        others: Mean parameters and mean score of methods that are grey points without a name.
    """

    title: str
    metric: str
    points: tuple[Point, ...]
    higher_is_better: bool = True
    others: tuple[tuple[float, float], ...] = ()

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
    """One panel has its key to the right, with numbers; several have it below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names, alone = _numbered(panels), len(panels) == 1
    costs = [point.cost for panel in panels for point in panel.points if point.cost is not None]
    known = [value for value in costs if value > 0] or [1.0]
    unit = min(_UNIT / statistics.median(known), _LARGEST / max(known))  # area of a cost of 1
    said = {name: f"{n}  {name}{_numbers(panels[0], name) if alone else ''}" for name, n in names.items()}
    columns, wide = (1, _ALONE) if alone else (min(_COLUMNS, len(panels)), max(WIDTH, len(panels[:_COLUMNS]) * _WIDTH))
    rows, entries = -(-len(panels) // columns), 1 if alone else legend_columns(list(said.values()), wide)
    key = -(-len(said) // entries) * _ENTRY + 0.1
    high = max(_TALL, key - _FOOT) if alone else _HEIGHT
    right = max(inches(safe.label(text), 8) for text in said.values()) + 0.5 if alone else 0.0
    below = _FOOT if alone else _FOOT + key
    width, height, each = wide + right, rows * high + below, wide / columns
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    for i, panel in enumerate(panels):
        left, bottom = i % columns * each + _LEFT, height - (i // columns + 1) * high + _BELOW
        size = ((each - _LEFT - _RIGHT) / width, (high - _ABOVE - _BELOW) / height)
        _panel(figure.add_axes((left / width, bottom / height, *size)), panel, unit, looks, names)
    methods = [_handle(looks[name], math.sqrt(_UNKNOWN), text) for name, text in said.items()]
    place: dict[str, Any] = {"frameon": False, "fontsize": 8, "handlelength": 1.6, "borderaxespad": 0.2}
    if alone:
        figure.legend(handles=methods, loc="upper left", bbox_to_anchor=(wide / width, 1 - 0.2 / height), **place)
    else:
        above = (0.5, _FOOT / height)
        figure.legend(handles=methods, loc="lower center", ncols=entries, bbox_to_anchor=above, **place)
    sizes, corner = _sizes(costs, unit), (_LEFT / width, 0.22 / height)
    figure.legend(handles=sizes, loc="lower left", ncols=6, bbox_to_anchor=corner, **place)
    if costs:
        figure.text(_LEFT / width, 0.08 / height, safe.label(f"area: {cost}"), fontsize=8)
    return figure


def _numbered(panels: Sequence[Panel]) -> dict[str, int]:
    """The number of each method, from 1: by its score in the first panel that has it, the best first."""
    names: dict[str, int] = {}
    for panel in panels:
        sign = -1 if panel.higher_is_better else 1
        for point in sorted(panel.points, key=lambda point: sign * point.mean[1]):
            names.setdefault(point.label, len(names) + 1)
    return names


def _numbers(panel: Panel, name: str) -> str:
    """Score, parameters and cost of a method in words."""
    from matplotlib.ticker import EngFormatter

    point = next(point for point in panel.points if point.label == name)
    size, score = point.mean
    cost = "" if point.cost is None else f", {point.cost:.2g}×"
    return f":  {score:.4f}, {EngFormatter(sep='', places=None).format_eng(float(f'{size:.3g}'))}{cost}"


def _panel(axes: Axes, panel: Panel, unit: float, looks: Mapping[str, Style], names: Mapping[str, int]) -> None:
    axes.set_ylim(*_vertical(panel))
    best = [point.mean for point in panel.front]
    axes.plot(*zip(*best, strict=True), drawstyle="steps-post", color="0.55", linewidth=1, linestyle="--", zorder=1)
    _horizontal(axes, [*(size for point in panel.points for size, _ in point.runs), *(x for x, _ in panel.others)])
    if panel.others:
        sizes, scores = zip(*panel.others, strict=True)
        axes.scatter(sizes, scores, s=5, color="0.7", linewidths=0, zorder=1.5)
    for point in sorted(panel.points, key=lambda point: -(point.cost or 0)):  # the small above the large
        _draw(axes, point, looks[point.label], unit)
    low, high = axes.get_ylim()
    inside = [point for point in panel.points if low <= point.mean[1] <= high]
    number(axes, {names[p.label]: (p.mean, math.sqrt(_area(p, unit)) / 2) for p in inside})
    metric = safe.label(panel.metric)
    axes.set_ylabel(metric if panel.higher_is_better else f"{metric} (lower is better)", fontsize=8)
    axes.set_xlabel("trained parameters, without the head", fontsize=8)
    axes.set_title(safe.label(panel.title), fontsize=9, loc="left")
    axes.tick_params(labelsize=7.5)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _vertical(panel: Panel) -> tuple[float, float]:
    """The means without outliers and some room: a tenth of their range, or the usual spread of a method's seeds."""
    low, high = inner_limits([point.mean[1] for point in panel.points])
    spreads = [statistics.pstdev(score for _, score in point.runs) for point in panel.points]
    margin = max(0.12 * (high - low), statistics.median(spreads)) or 0.01
    return low - margin, high + margin


def _area(point: Point, unit: float) -> float:
    return _UNKNOWN if point.cost is None else max(_SMALLEST, unit * point.cost)


def _draw(axes: Axes, point: Point, look: Style, unit: float) -> None:
    x, y = point.mean
    area = _area(point, unit)
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


def _sizes(costs: Sequence[float], unit: float) -> list[Line2D]:
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
    return [front, *areas]
