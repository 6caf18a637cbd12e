"""Scores against a setting that was varied: ``save_png(lines, path, x_label="search.rank", …)``.

A point is a mean over seeds with its standard deviation; small points are the seeds. Numbers stand on an axis, which is
logarithmic where they go over more than a power of ten; anything else stands in its order, at equal distances.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autolora import safe
from autolora.errors import UserError
from autolora.plots.figures import WIDTH, Style, legend_columns, new_axes, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DECADES = 10.0  # ratio of the largest to the smallest number from which on an axis is logarithmic


@dataclass(frozen=True)
class SweepLine:
    """The scores of one method at one combination of the other settings.

    Args:
        label: In the legend.
        scores: Of the seeds, by the varied setting's value; values without a score are left out.
    """

    label: str
    scores: Mapping[float | str, tuple[float, ...]]


def save_png(
    lines: Sequence[SweepLine],
    path: Path,
    *,
    x_label: str,
    y_label: str,
    title: str,
    values: Sequence[float | str],
    looks: Mapping[str, Style],
) -> None:
    """Write the figure; the same lines give the same bytes.

    Args:
        lines: With different labels.
        path: The PNG file.
        x_label: What was varied.
        y_label: The metric.
        title: Of the figure.
        values: Of the setting, in the order in which those stand that are no numbers.
        looks: The style of each label.

    Raises:
        UserError: There is no score at all.
    """
    if not any(line.scores for line in lines):
        raise UserError("there are no scores to draw")
    save(_figure(lines, x_label, y_label, title, values, looks), path)


def _figure(
    lines: Sequence[SweepLine],
    x_label: str,
    y_label: str,
    title: str,
    values: Sequence[float | str],
    looks: Mapping[str, Style],
) -> Figure:
    labels = [line.label for line in lines]
    columns = legend_columns(labels, WIDTH)
    figure, axes = new_axes(len(labels), columns)
    places = _places(axes, values)
    for line in lines:
        _draw(axes, line, places, looks[line.label])
    axes.set_xlabel(safe.label(x_label), fontsize=9)
    axes.set_ylabel(safe.label(y_label), fontsize=9)
    axes.set_title(safe.label(title), fontsize=10, loc="left")
    figure.legend(loc="lower center", ncols=columns, frameon=False, fontsize=8, handlelength=2.4)
    return figure


def _places(axes: Axes, values: Sequence[float | str]) -> dict[float | str, float]:
    """Where each value stands on the axis, whose scale and ticks this sets."""
    from matplotlib.ticker import FixedLocator, NullLocator

    numbers = [float(value) for value in values if not isinstance(value, str)]
    if len(numbers) < len(values):
        places = {value: float(place) for place, value in enumerate(values)}
        axes.set_xlim(-0.3, len(values) - 0.7)
    else:
        places = {value: float(value) for value in values}
        if min(numbers) > 0 and max(numbers) >= _DECADES * min(numbers):
            axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([*places.values()]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([safe.label(value if isinstance(value, str) else f"{value:g}") for value in values])
    return places


def _draw(axes: Axes, line: SweepLine, places: Mapping[float | str, float], look: Style) -> None:
    found = sorted((places[value], scores) for value, scores in line.scores.items() if scores)
    xs = [x for x, _ in found]
    means = [statistics.fmean(scores) for _, scores in found]
    spreads = [statistics.stdev(scores) if len(scores) > 1 else 0.0 for _, scores in found]
    axes.errorbar(
        xs,
        means,
        yerr=spreads,
        color=look.colour,
        marker=look.marker,
        markersize=5,
        linestyle=look.line,
        linewidth=1.4,
        capsize=2.5,
        elinewidth=0.9,
        label=safe.label(line.label),
        zorder=3,
    )
    for x, scores in found:
        if len(scores) > 1:
            axes.scatter([x] * len(scores), scores, s=7, color=look.colour, alpha=0.4, linewidths=0, zorder=2)
