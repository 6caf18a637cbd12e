"""The rank map: which rank each module got, layers by projections.

``render(ranks, initial_rank)`` is a shaded table for the terminal (``Console().print(...)``), ``save_png(ranks,
initial_rank, path)`` a heat map; layer 0 is at the top in both. `ranks` maps full module names
(``bert.encoder.layer.0.attention.self.query``) to ranks, `initial_rank` is the rank that the search began with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.color import Color, blend_rgb
from rich.color_triplet import ColorTriplet
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

from autolora import safe
from autolora.errors import UserError
from autolora.lora.places import RankTable, rank_table
from autolora.plots.figures import save
from autolora.tables import beside_each_other

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from numpy.typing import NDArray

PAGE = 9.0  # inches that the columns of a picture take
_LIGHT, _DARK = ColorTriplet(247, 251, 255), ColorTriplet(8, 48, 107)  # the ends of matplotlib's "Blues"


def summary(ranks: Mapping[str, int], initial_rank: int) -> str:
    """One line: ``sum 94 of 192, mean 3.92 of 8, 24 modules``.

    Args:
        ranks: By full module name.
        initial_rank: What they are out of.
    """
    if not ranks:
        return "no modules"
    total, count = sum(ranks.values()), len(ranks)
    modules = "1 module" if count == 1 else f"{count} modules"
    return f"sum {total} of {initial_rank * count}, mean {total / count:.2f} of {initial_rank}, {modules}"


def render(ranks: Mapping[str, int], initial_rank: int) -> RenderableType:
    """The rank map for the terminal: the ranks as numbers, on a background that darkens with rank / `initial_rank`.

    Args:
        ranks: By full module name.
        initial_rank: What they are out of.
    """
    return _Map(rank_table(ranks), initial_rank, summary(ranks, initial_rank))


@dataclass(frozen=True)
class _Map:
    """Tables below each other, of as many projections as the terminal has room for."""

    table: RankTable
    initial_rank: int
    summary: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        labels = [safe.terminal(name).replace(".", ".\n") for name in self.table.projections]
        widths = [max(4, *map(len, label.split("\n"))) + 1 for label in labels]  # "10.5" is a mean
        for part in beside_each_other(widths, options.max_width - len("layer ")):
            yield Group(self._shown(labels, part), *([Text()] if part.stop < len(labels) else []))
        yield Text(self.summary)

    def _shown(self, labels: Sequence[str], part: slice) -> Table:
        rows = [row[part] for row in self.table.values]
        shown = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False, show_footer=len(rows) > 1)
        shown.add_column(Text("layer "), Text("mean "), justify="right")
        for label, column in zip(labels[part], zip(*rows, strict=True), strict=True):
            present = [rank for rank in column if rank is not None]
            mean = f"{sum(present) / len(present):.1f} "
            shown.add_column(Text(label + " "), Text(mean), justify="right", vertical="bottom")
        for layer, row in zip(self.table.layers, rows, strict=True):
            shown.add_row(Text(f"{layer} "), *(_cell(rank, self.initial_rank) for rank in row))
        return shown


def _cell(rank: int | None, initial_rank: int) -> RenderableType:
    if rank is None:
        return Text("· ", justify="right", style="dim")
    share = min(rank / initial_rank, 1.0)
    background = Color.from_triplet(blend_rgb(_LIGHT, _DARK, share))
    foreground = Color.from_rgb(255, 255, 255) if share > 0.6 else Color.from_rgb(0, 0, 0)
    text = Text(str(rank), justify="right")
    return Padding(text, (0, 1), style=Style(color=foreground, bgcolor=background), expand=True)


def save_png(ranks: Mapping[str, int], initial_rank: int, path: Path) -> None:
    """Write the rank map as a heat map, layer 0 at the top; the same ranks give the same bytes.

    Args:
        ranks: By full module name.
        initial_rank: What they are out of, the darkest colour.
        path: The PNG file.

    Raises:
        UserError: There are no ranks.
    """
    if not ranks:
        raise UserError("there are no ranks to draw")
    save(_figure(ranks, initial_rank), path)


def _figure(ranks: Mapping[str, int], initial_rank: int) -> Figure:
    import numpy as np

    table = rank_table(ranks)
    values = np.array(table.values, dtype=float)

    def draw(axes: Axes, columns: slice) -> AxesImage:
        return _heat_map(axes, values[:, columns], initial_rank)

    texts = ("Rank per module", summary(ranks, initial_rank))
    return heat_maps(table.layers, table.projections, draw, initial_rank, texts, column=0.55, row=0.27)


def heat_maps(
    layers: Sequence[str],
    projections: Sequence[str],
    draw: Callable[[Axes, slice], AxesImage],
    initial_rank: int,
    texts: tuple[str, str],
    *,
    column: float,
    row: float,
) -> Figure:
    """A heat map of layers by projections; what is wider than a page goes on in another one below it.

    Args:
        layers: Row labels.
        projections: Column labels.
        draw: Draws these columns of the map.
        initial_rank: The largest rank of the colours.
        texts: The title, and the line below it.
        column: The least width of a column in inches.
        row: The height of a row in inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    texts, layers = (safe.label(texts[0]), safe.label(texts[1])), list(map(safe.label, layers))
    labels = [safe.label(name).replace(".", ".\n") for name in projections]
    column = max(column, 0.08 * max(len(line) for label in labels for line in label.split("\n")))
    count = math.ceil(len(labels) / math.ceil(column * len(labels) / PAGE))  # columns of a map, evenly
    parts = [slice(first, first + count) for first in range(0, len(labels), count)]
    width, height, left, right, top = max(column * count, 1.4), row * len(layers), 0.7, 0.95, 0.65  # inches
    below = [0.2 + 0.15 * max(label.count("\n") + 1 for label in labels[part]) for part in parts]
    size = (left + width + right, top + sum(below) + height * len(parts))
    figure = Figure(figsize=size, facecolor="white")
    FigureCanvasAgg(figure)
    upper = size[1] - top
    for part, under in zip(parts, below, strict=True):
        wide = width * len(labels[part]) / count
        place = (left / size[0], (upper - height) / size[1], wide / size[0], height / size[1])
        axes = figure.add_axes(place)
        image = draw(axes, part)
        label_axes(axes, layers, labels[part])
        if part is parts[0]:
            colour_bar(figure, axes, image, initial_rank)
        upper -= height + under
    figure.text(0.5, 1 - 0.18 / size[1], texts[0], ha="center", va="center", fontsize=10)
    figure.text(0.5, 1 - 0.41 / size[1], texts[1], ha="center", va="center", fontsize=7.5)
    return figure


def _heat_map(axes: Axes, values: NDArray[np.float64], initial_rank: int) -> AxesImage:
    import numpy as np

    image = axes.imshow(np.ma.masked_invalid(values), cmap="Blues", vmin=0, vmax=initial_rank, aspect="auto")
    axes.set_facecolor("0.88")
    for (row, column), value in np.ndenumerate(values):
        text = "–" if np.isnan(value) else f"{value:.0f}"
        colour = "white" if value > 0.65 * initial_rank else "black"
        axes.text(column, row, text, ha="center", va="center_baseline", color=colour, fontsize=8)
    return image


def label_axes(axes: Axes, layers: Sequence[str], projections: Sequence[str]) -> None:
    """Label the rows and columns of a heat map of ranks, and part its cells by white lines.

    Args:
        axes: With the heat map.
        layers: Row labels.
        projections: Column labels.
    """
    axes.set_xticks(range(len(projections)), projections, fontsize=8)
    axes.set_yticks(range(len(layers)), layers, fontsize=8)
    axes.set_ylabel("layer", fontsize=9)
    axes.tick_params(length=0)
    axes.set_xticks([column + 0.5 for column in range(len(projections) - 1)], minor=True)
    axes.set_yticks([row + 0.5 for row in range(len(layers) - 1)], minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)


def colour_bar(figure: Figure, axes: Axes, image: AxesImage, initial_rank: int) -> None:
    """Put a bar beside a heat map that says which colour is which rank.

    Args:
        figure: Of the heat map.
        axes: With the heat map, at its final place.
        image: The heat map.
        initial_rank: The largest rank of the bar.
    """
    from matplotlib.ticker import MaxNLocator

    width, height = figure.get_size_inches()
    place = axes.get_position()
    tall = min(place.height, 3.0 / height)
    bar_axes = figure.add_axes((place.x1 + 0.2 / width, place.y1 - tall, 0.14 / width, tall))
    ticks = MaxNLocator(nbins=8, integer=True).tick_values(0, initial_rank)
    bar = figure.colorbar(image, cax=bar_axes, ticks=[tick for tick in ticks if 0 <= tick <= initial_rank])
    bar.set_label("rank", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
