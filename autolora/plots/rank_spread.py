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
from autolora.lora.places import places
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
    where = places(names)
    means, spreads = (np.full((len(where.layers), len(where.projections)), np.nan) for _ in range(2))
    for index, name in enumerate(names):
        means[where.cells[name]] = values[:, index].mean()
        spreads[where.cells[name]] = values[:, index].std(ddof=1)

    def draw(axes: Axes, columns: slice) -> AxesImage:
        return _heat_map(axes, means[:, columns], spreads[:, columns], initial_rank)

    totals = values.sum(axis=1)
    said = f"sum {totals.mean():.1f} ± {totals.std(ddof=1):.1f} of {initial_rank * len(names)}, {len(names)} modules"
    texts = (f"Mean rank ± sd, {len(values)} seeds", said)
    return rank_map.heat_maps(where.layers, where.projections, draw, initial_rank, texts, column=0.6, row=_ROW)


def _heat_map(axes: Axes, means: NDArray[np.float64], spreads: NDArray[np.float64], initial_rank: int) -> AxesImage:
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
