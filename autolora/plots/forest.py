"""A forest plot: ``save_png([Line("svd", 0.016, 0.001, 0.030, told_apart=False)], path, title="…", x_label="…")``.

A line is a difference with its interval, positive to the right; the column beside it has the numbers. What lies far
beyond all others ends in an arrow at the edge.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autolora.errors import UserError
from autolora.plots.figures import CHARACTER, inches, inner_reach, save
from autolora.safe import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BETTER, WORSE, NEITHER = "#0072B2", "#D55E00", "0.4"
_FONT = 8  # points
_LABEL = 24  # characters of a label's line
_PLOT = 2.45  # inches of the axis, as all that follows
_ROW, _LINE = 0.25, 0.14
_ABOVE, _BELOW, _GAP = 0.34, 0.3, 0.12


@dataclass(frozen=True)
class Line:
    """A difference.

    Args:
        label: Whose.
        mean: None where there is none.
        low: The lower end of its interval; None where there is no interval.
        high: The upper end.
        told_apart: Whether it is more than chance.
    """

    label: str
    mean: float | None
    low: float | None
    high: float | None
    told_apart: bool

    @property
    def said(self) -> str:
        """In numbers: ``+0.0364 [+0.0151, +0.0578] *``."""
        if self.mean is None:
            return "no seed in common"
        if self.low is None or self.high is None:
            return f"{self.mean:+.4f} (no interval)"
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]{' *' if self.told_apart else ''}"


def save_png(lines: Sequence[Line], path: Path, *, title: str, x_label: str, baseline: str) -> None:
    """Write the figure.

    Args:
        lines: From top to bottom.
        path: The PNG file.
        title: Of the figure.
        x_label: What the differences are of, with the unit.
        baseline: What is better to the right.

    Raises:
        UserError: There is no difference.
    """
    if all(line.mean is None for line in lines):
        raise UserError("there are no differences to draw")
    save(_figure(lines, title, (f"better than {baseline} →", x_label)), path)


def _figure(lines: Sequence[Line], title: str, notes: Sequence[str]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    labels = [label(_wrapped(line.label)) for line in lines]
    left = max(inches(part, _FONT) for each in labels for part in each.split("\n")) + 0.2
    right = max(inches(label(line.said), _FONT) for line in lines) + 2 * _GAP
    room = int((left + _PLOT + right - 0.2) / CHARACTER)
    said = [label(part) for note in notes for part in textwrap.wrap(note, room)]
    below = _BELOW + len(said) * 1.2 * _LINE
    heights = [_ROW + _LINE * each.count("\n") for each in labels]
    width, height = left + _PLOT + right, sum(heights) + _ABOVE + below
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((left / width, below / height, _PLOT / width, sum(heights) / height))
    places = [sum(heights[:i]) + heights[i] / 2 for i in range(len(heights))]  # inches from the top
    axes.set_ylim(sum(heights), 0)
    low, high = _limits(lines)
    axes.set_xlim(low, high)
    axes.axvline(0, color="0.2", linewidth=0.9, zorder=1)
    for line, place in zip(lines, places, strict=True):
        _draw(axes, line, place, (low, high))
        axes.text(
            1 + _GAP / _PLOT, place, label(line.said), transform=axes.get_yaxis_transform(), va="center", fontsize=_FONT
        )
    axes.set_yticks(places, labels)
    axes.tick_params(labelsize=_FONT)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, symmetric=False))
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    for number, text in enumerate(reversed(said)):
        figure.text(
            (left + _PLOT / 2) / width, (0.06 + number * 1.2 * _LINE) / height, text, fontsize=_FONT, ha="center"
        )
    figure.text(0.08 / width, 1 - 0.08 / height, label(title), fontsize=10, va="top")
    return figure


def _wrapped(name: str) -> str:
    """On lines of at most `_LABEL` characters, broken after colons, commas and slashes; equals signs where need be."""
    words = re.sub(r"([:,/])", r"\1 ", name).split(" ")
    parts = " ".join(word if len(word) <= _LABEL else word.replace("=", "= ") for word in words)
    lines = textwrap.wrap(parts, _LABEL, break_on_hyphens=False) or [name]
    return "\n".join(re.sub(r"([:,/=]) ", r"\1", line) for line in lines)


def _limits(lines: Sequence[Line]) -> tuple[float, float]:
    """Of the axis: zero, the means and the intervals, without those that would flatten all others."""
    ends = [[end for end in (line.low, line.mean, line.high) if end is not None] for line in lines]
    ends = [found for found in ends if found]
    reach = inner_reach([max(map(abs, found)) for found in ends])
    low = max(-reach, min(0.0, *(min(found) for found in ends)))
    high = min(reach, max(0.0, *(max(found) for found in ends)))
    margin = 0.08 * (high - low) or 0.01
    return low - margin, high + margin


def _draw(axes: Axes, line: Line, place: float, limits: tuple[float, float]) -> None:
    if line.mean is None:
        return
    low, high = limits
    colour = (BETTER if line.mean > 0 else WORSE) if line.told_apart else NEITHER
    if line.low is not None and line.high is not None:
        axes.plot([line.low, line.high], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt", zorder=2)
    beyond = line.mean < low or line.mean > high
    for edge, marker, outside in ((low, "<", line.low), (high, ">", line.high)):
        end = line.mean if outside is None else outside
        if (marker == "<" and end < low) or (marker == ">" and end > high):
            inside = edge + 0.02 * (high - low) * (1 if marker == "<" else -1)
            axes.scatter([inside], [place], marker=marker, s=34, color=colour, clip_on=False, zorder=4)
    if not beyond:
        face = colour if line.told_apart else "white"
        axes.scatter(
            [line.mean], [place], marker="o", s=34, facecolors=face, edgecolors=colour, linewidths=1.3, zorder=3
        )
