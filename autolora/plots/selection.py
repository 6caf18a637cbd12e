"""The selection variables over the search: ``save_png(records, path, threshold=0.125)``.

A record is a line of the search log: ``{"step": 10, "selection": {module: [a_1, ..., a_k]}, "ranks": {module: rank}}``
(it may hold more). The figure has a panel per module, layers by projections, with one line per component: coloured
where the component is kept at the end, grey where it is dropped. Many layers go side by side, read down and then right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from autolora import safe
from autolora.errors import UserError
from autolora.lora.places import Places, places
from autolora.plots.figures import save

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

KEPT, DROPPED, THRESHOLD = "#1f6fb4", "#b3b3b3", "#c23b22"
_MOST_POINTS = 400  # of a line; more cannot be told apart in a small panel
_MOST_COLUMNS = 8


@dataclass(frozen=True)
class _Layout:
    """Layers in `blocks` side by side, each of `rows` layers by `columns` projections; lengths in inches."""

    rows: int
    blocks: int
    columns: int
    panel: tuple[float, float]
    top: float

    left: ClassVar[float] = 0.5  # the margins
    right: ClassVar[float] = 0.15
    bottom: ClassVar[float] = 0.75
    gap: ClassVar[float] = 0.07  # between panels
    indent: ClassVar[float] = 0.32  # before a block, for the layers' numbers

    def corner(self, row: int, column: int) -> tuple[float, float]:
        """Left lower corner of the panel of layer `row` and projection `column`."""
        block, line = divmod(row, self.rows)
        across = block * self.columns + column
        x = self.left + across * (self.panel[0] + self.gap) + (block + 1) * self.indent
        return x, self.bottom + (self.rows - 1 - line) * (self.panel[1] + self.gap)

    @property
    def size(self) -> tuple[float, float]:
        x, _ = self.corner(self.rows * self.blocks - 1, self.columns - 1)
        _, y = self.corner(0, 0)
        return x + self.panel[0] + self.right, y + self.panel[1] + self.top


def save_png(records: Sequence[Mapping[str, Any]], path: Path, *, threshold: float | None) -> None:
    """Write the figure; the same records give the same bytes.

    Args:
        records: Lines of the search log, in the order of steps.
        path: The PNG file.
        threshold: Marked by a dashed line; None for no line.

    Raises:
        UserError: The log has no selection variables.
    """
    if not records or not records[-1]["selection"]:
        raise UserError("the search log has no selection variables to plot; has the search taken a step?")
    save(_figure(records, threshold), path)


def _figure(records: Sequence[Mapping[str, Any]], threshold: float | None) -> Figure:
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = [records[place] for place in thinned(len(records))]
    where = places(records[-1]["selection"])
    layout = _layout(where)
    figure = Figure(figsize=layout.size, facecolor="white")
    FigureCanvasAgg(figure)
    steps = np.array([record["step"] for record in records], dtype=float)
    values = {name: np.array([record["selection"][name] for record in records], dtype=float) for name in where.cells}
    highest = max(threshold or 0.0, *(lines[np.isfinite(lines)].max(initial=0.0) for lines in values.values()))
    for name, cell in where.cells.items():
        axes = figure.add_axes(_position(layout, *cell))
        axes.set(xlim=_limits(steps), ylim=(0.0, highest * 1.25 or 1.0))  # room above the lines for the rank
        _draw(axes, steps, values[name], records[-1]["ranks"][name], threshold)
        _ticks(axes, steps, *_edges(layout, where, cell))
    _label(figure, layout, where)
    _legend(figure, threshold)
    return figure


def thinned(count: int) -> list[int]:
    """Which of so many records are drawn: at most `_MOST_POINTS`, evenly, the first and the last among them.

    Args:
        count: Of the log's records.
    """
    most = min(count, _MOST_POINTS)
    return [round(index * (count - 1) / max(most - 1, 1)) for index in range(most)]


def _layout(where: Places) -> _Layout:
    """About as many rows as columns, in panels that shrink as there are more of them."""
    layers, columns = len(where.layers), len(where.projections)
    blocks = max(1, min(round(math.sqrt(layers / columns)), _MOST_COLUMNS // columns))
    rows = math.ceil(layers / blocks)
    blocks = math.ceil(layers / rows)
    panel = min(max(6.4 / (blocks * columns), 0.78), 1.6), min(max(7.0 / rows, 0.5), 0.95)
    lines = max(name.count(".") for name in where.projections) + 1
    return _Layout(rows, blocks, columns, panel, top=0.17 + 0.12 * lines)


def _position(layout: _Layout, row: int, column: int) -> tuple[float, float, float, float]:
    (x, y), (width, height) = layout.corner(row, column), layout.size
    return x / width, y / height, layout.panel[0] / width, layout.panel[1] / height


def _edges(layout: _Layout, where: Places, cell: tuple[int, int]) -> tuple[bool, bool]:
    """Whether no panel of the first block is to the left of this one, and none of its block below it."""
    row, column = cell
    cells = where.cells.values()
    leftmost = row < layout.rows and column == min(c for r, c in cells if r == row)
    block = row // layout.rows
    return leftmost, row == max(r for r, c in cells if c == column and r // layout.rows == block)


def _limits(steps: NDArray[np.float64]) -> tuple[float, float]:
    first, last = float(steps[0]), float(steps[-1])
    return (first, last) if last > first else (first - 1.0, first + 1.0)


def _draw(
    axes: Axes, steps: NDArray[np.float64], values: NDArray[np.float64], rank: int, threshold: float | None
) -> None:
    """One line per component, the `rank` largest at the end in colour and on top."""
    import numpy as np
    from matplotlib.collections import LineCollection

    order = (-values[-1]).argsort(kind="stable")
    for colour, components in ((DROPPED, order[rank:]), (KEPT, order[:rank])):
        lines = [np.column_stack((steps, values[:, component])) for component in components]
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=0.7), autolim=False)
        if len(steps) == 1:
            axes.scatter([steps[0]] * len(components), values[0, components], s=3, color=colour)
    if threshold is not None:
        axes.axhline(threshold, color=THRESHOLD, linewidth=0.6, linestyle=(0, (4, 3)))
    axes.text(0.97, 0.97, f"r = {rank}", transform=axes.transAxes, ha="right", va="top", fontsize=6)


def _ticks(axes: Axes, steps: NDArray[np.float64], leftmost: bool, lowest: bool) -> None:
    """Few ticks; numbers only at the left edge of the figure and below the lowest panel of a column."""
    from matplotlib.ticker import MaxNLocator

    ends = sorted({float(steps[0]), float(steps[-1])})
    axes.set_xticks(ends, [f"{end:.0f}" for end in ends])
    if len(ends) == 2:  # so that they do not run into those of the next panel
        first, last = axes.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
    axes.tick_params(labelsize=6, length=2, width=0.5, pad=1.5, labelleft=leftmost, labelbottom=lowest)
    axes.spines[:].set_linewidth(0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _label(figure: Figure, layout: _Layout, where: Places) -> None:
    """The layers' numbers left of each block, the projections' names above it, and what the axes are."""

    def write(x: float, y: float, text: str, size: float = 7, **how: Any) -> None:
        figure.text(x / layout.size[0], y / layout.size[1], text, fontsize=size, **how)

    (width, height), (panel_width, panel_height) = layout.size, layout.panel
    for row, layer in enumerate(where.layers):
        x, y = layout.corner(row, 0)
        aside = layout.indent if row < layout.rows else 0.08  # the first block has numbers at its axes
        write(x - aside, y + panel_height / 2, safe.label(layer), ha="right", va="center")
    for block in range(layout.blocks):
        for column, name in enumerate(where.projections):
            x, y = layout.corner(block * layout.rows, column)
            text = safe.label(name).replace(".", ".\n")
            write(x + panel_width / 2, y + panel_height + 0.07, text, ha="center", va="baseline", linespacing=1.0)
    write(layout.left, height - layout.top + 0.07, "layer", ha="right", va="baseline")
    middle = (layout.bottom + height - layout.top) / 2
    write(0.14, middle, "selection variable $a_l[j]$", 8, ha="center", va="center", rotation=90)
    write(width / 2, 0.38, "search step", 8, ha="center", va="bottom")


def _legend(figure: Figure, threshold: float | None) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=KEPT, label="kept"), Line2D([], [], color=DROPPED, label="dropped")]
    if threshold is not None:
        label = f"threshold {threshold:.4g}"
        handles.append(Line2D([], [], color=THRESHOLD, linewidth=0.8, linestyle=(0, (4, 3)), label=label))
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=7)
