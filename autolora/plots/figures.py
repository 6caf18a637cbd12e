"""What the figures of a report share: colours, and PNG files of which the same input gives the same bytes."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autolora.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

DPI = 200
WIDTH = 5.4  # inches of a figure with one plot
CHARACTER = 0.066  # inches of a legend's character, about
_PALETTE = 128  # colours of a compact figure
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000", "#56B4E9")  # Okabe and Ito, less yellow
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
LINES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))


@dataclass(frozen=True)
class Style:
    """How a method looks in every figure. Colours come again after seven, with another marker and another line.

    Args:
        colour: Of matplotlib, as are the others.
        marker: Of points.
        line: A name, or an offset and the lengths of dashes and gaps in points.
    """

    colour: str
    marker: str
    line: str | tuple[int, tuple[float, ...]]


def styles(labels: Sequence[str]) -> dict[str, Style]:
    """A style for each label, by its place.

    Args:
        labels: In the order of the legend; of equal ones the first counts.
    """
    return {
        label: Style(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], LINES[i // len(COLOURS) % len(LINES)])
        for i, label in enumerate(dict.fromkeys(labels))
    }


def legend_columns(labels: Sequence[str], width: float) -> int:
    """How many columns of a legend, of one to four, fit a figure.

    Args:
        labels: In the order of the legend.
        width: Of the figure, in inches.
    """
    widest = max(map(len, labels), default=1) * CHARACTER + 0.6  # with the handle and a gap
    return max(1, min(4, int(width / widest), len(labels)))


def inches(text: str, size: float) -> float:
    """The width of a text.

    Args:
        text: One line.
        size: Of its font, in points.
    """
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text or " ", size=size).get_extents().x1) / 72


def inner_reach(reaches: Sequence[float]) -> float:
    """The largest of the distances from a centre without outliers, so that one method does not flatten all others.

    Outliers are more than four times as far as the next, and at most a third of them.

    Args:
        reaches: One or more distances, none negative.
    """
    ordered = sorted(reaches)
    for cut in range(len(ordered) // 3, 0, -1):
        if ordered[-cut] > 4 * ordered[-cut - 1] > 0:
            return ordered[-cut - 1]
    return ordered[-1]


def inner_limits(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values without outliers, seen from their median.

    Args:
        values: One or more.
    """
    centre = statistics.median(values)
    reach = inner_reach([abs(value - centre) for value in values])
    kept = [value for value in values if abs(value - centre) <= reach]
    return min(kept), max(kept)


def new_axes(entries: int, columns: int) -> tuple[Figure, Axes]:
    """A figure with one plot, and room below it for a legend.

    Args:
        entries: Of the legend.
        columns: In which they stand.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    legend = 0.19 * -(-entries // columns) + 0.08  # inches, as all that follows
    width, height, bottom, top = WIDTH, 3.5 + legend, 0.5 + legend, 0.3
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    left, right = 0.68, 0.12
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height))
    axes.tick_params(labelsize=8)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG; the same figure gives the same bytes.

    Args:
        figure: Without a window, on a canvas of Agg's.
        path: The file.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None}, bbox_inches=_widened(figure))
    write_atomic(path, buffer.getvalue())
    figure.clear()  # a figure and its parts point at each other: they would stay until the next collection


def _widened(figure: Figure) -> Bbox | None:
    """The figure in inches, wider on the left where an axis has long numbers; None where there is room for them."""
    from matplotlib.transforms import Bbox

    figure.set_dpi(DPI)  # texts are not as wide at every resolution
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]  # of Agg's canvas
    boxes = [axes.yaxis.get_tightbbox(renderer) for axes in figure.axes if axes.get_ylabel()]
    over = -min((box.x0 for box in boxes if box is not None), default=0.0) / figure.dpi
    return Bbox.from_extents(-over - 0.04, 0.0, *figure.get_size_inches()) if over > 0 else None


def compact(path: Path) -> None:
    """Reduce a PNG file to as few colours as a figure needs, which makes it about a third of its size.

    Args:
        path: The file, which is replaced.
    """
    from PIL import Image

    with Image.open(path) as image:
        few = image.convert("RGB").quantize(_PALETTE, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    few.save(buffer, format="PNG", optimize=True)
    write_atomic(path, buffer.getvalue())
