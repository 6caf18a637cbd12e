"""The rank map of several seeds: ``save_png([ranks_of_seed_0, ranks_of_seed_1], initial_rank, path)``.

Layers by projections, as in `autolora.plots.rank_map`; in each cell the mean rank and below it the standard deviation
over the seeds (over n − 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from autolora.errors import UserError
from autolora.lora.places import Places, places
from autolora.plots import rank_map
from autolora.plots.figures import save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_ROW = 0.34  # inches


def save_png(ranks: Sequence[Mapping[str, int]], initial_rank: int, path: Path) -> None:
    """Write the heat map of the modules that all seeds have; of a single seed, the map of its ranks.

    Args:
        ranks: Of each seed, by full module name.
        initial_rank: What they are out of, the darkest colour.
        path: The PNG file.
    """
    if len(ranks) == 1:
        rank_map.save_png(ranks[0], initial_rank, path)
        return
    names = [name for name in ranks[0] if all(name in each for each in ranks)] if ranks else []
    if not names:
        raise UserError("there are no ranks to draw")
    values = np.array([[each[name] for name in names] for each in ranks], dtype=float)
    save(_figure(names, values, initial_rank), path)


def _figure(names: Sequence[str], values: NDArray[np.float64], initial_rank: int) -> Figure:
    """values: (seeds, modules)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    where = places(names)
    labels = [name.replace(".", ".\n") for name in where.projections]
    lines = [line for label in labels for line in label.split("\n")]
    column = max(0.6, 0.08 * max(map(len, lines)))  # inches, as all that follows
    width, height = max(column * len(labels), 1.6), _ROW * len(where.layers)
    left, right, top = 0.7, 0.95, 0.65
    bottom = 0.2 + 0.15 * max(label.count("\n") + 1 for label in labels)
    size = (left + width + right, bottom + height + top)
    figure = Figure(figsize=size, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((left / size[0], bottom / size[1], width / size[0], height / size[1]))
    image = _heat_map(axes, where, names, values, initial_rank)
    rank_map.label_axes(axes, where.layers, labels)
    rank_map.colour_bar(figure, axes, image, initial_rank)
    totals = values.sum(axis=1)
    said = f"sum {totals.mean():.1f} ± {totals.std(ddof=1):.1f} of {initial_rank * len(names)}, {len(names)} modules"
    figure.text(0.5, 1 - 0.18 / size[1], f"Mean rank ± sd, {len(values)} seeds", ha="center", va="center", fontsize=10)
    figure.text(0.5, 1 - 0.41 / size[1], said, ha="center", va="center", fontsize=7.5)
    return figure


def _heat_map(
    axes: Axes, where: Places, names: Sequence[str], values: NDArray[np.float64], initial_rank: int
) -> AxesImage:
    means, spreads = (np.full((len(where.layers), len(where.projections)), np.nan) for _ in range(2))
    for index, name in enumerate(names):
        means[where.cells[name]] = values[:, index].mean()
        spreads[where.cells[name]] = values[:, index].std(ddof=1)
    image = axes.imshow(np.ma.masked_invalid(means), cmap="Blues", vmin=0, vmax=initial_rank, aspect="auto")
    axes.set_facecolor("0.88")
    for (row, column), mean in np.ndenumerate(means):
        if np.isnan(mean):
            axes.text(column, row, "–", ha="center", va="center_baseline", fontsize=8)
            continue
        colour = "white" if mean > 0.65 * initial_rank else "black"
        axes.text(column, row - 0.14, f"{mean:.1f}", ha="center", va="center", color=colour, fontsize=8)
        spread = f"±{spreads[row, column]:.1f}"
        axes.text(column, row + 0.26, spread, ha="center", va="center", color=colour, fontsize=5.5)
    return image
