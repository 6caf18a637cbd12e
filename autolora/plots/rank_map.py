"""The rank map: which rank each module got, layers by projections.

``render(ranks, initial_rank)`` is a shaded table for the terminal (``Console().print(...)``), ``save_png(ranks,
initial_rank, path)`` a heat map; layer 0 is at the top in both. `ranks` maps full module names
(``bert.encoder.layer.0.attention.self.query``) to ranks, `initial_rank` is the rank that the search began with.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.color import Color, blend_rgb
from rich.color_triplet import ColorTriplet
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

from autolora.errors import UserError
from autolora.files import write_atomic
from autolora.lora.places import RankTable, rank_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

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
    table = rank_table(ranks)
    shown = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False, show_footer=len(table.layers) > 1)
    shown.add_column(Text("layer "), Text("mean "), justify="right")
    for name, column in zip(table.projections, zip(*table.values, strict=True), strict=True):
        present = [rank for rank in column if rank is not None]
        mean = f"{sum(present) / len(present):.1f} "
        shown.add_column(Text(name.replace(".", ".\n") + " "), Text(mean), justify="right", vertical="bottom")
    for layer, row in zip(table.layers, table.values, strict=True):
        shown.add_row(Text(f"{layer} "), *(_cell(rank, initial_rank) for rank in row))
    return Group(shown, Text(summary(ranks, initial_rank)))


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
    buffer = io.BytesIO()
    _figure(ranks, initial_rank).savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    write_atomic(path, buffer.getvalue())


def _figure(ranks: Mapping[str, int], initial_rank: int) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table = rank_table(ranks)
    labels = [name.replace(".", ".\n") for name in table.projections]
    lines = [line for label in labels for line in label.split("\n")]
    column = max(0.55, 0.08 * max(map(len, lines)))  # inches, as all that follows
    width, height = max(column * len(labels), 1.4), 0.27 * len(table.layers)
    left, right, top = 0.7, 0.95, 0.65
    bottom = 0.2 + 0.15 * max(label.count("\n") + 1 for label in labels)
    size = (left + width + right, bottom + height + top)
    figure = Figure(figsize=size, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((left / size[0], bottom / size[1], width / size[0], height / size[1]))
    image = _heat_map(axes, table, initial_rank)
    label_axes(axes, table.layers, labels)
    colour_bar(figure, axes, image, initial_rank)
    figure.text(0.5, 1 - 0.18 / size[1], "Rank per module", ha="center", va="center", fontsize=10)
    figure.text(0.5, 1 - 0.41 / size[1], summary(ranks, initial_rank), ha="center", va="center", fontsize=7.5)
    return figure


def _heat_map(axes: Axes, table: RankTable, initial_rank: int) -> AxesImage:
    import numpy as np

    values = np.array(table.values, dtype=float)
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
