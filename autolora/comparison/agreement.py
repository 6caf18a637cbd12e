"""Do runs agree on the ranks? ``agreement([ranks_of_seed_0, ranks_of_seed_1, …])``, ``component_agreement(pairs)``.

S runs that differ in the seed gave module l of L the ranks r_s[l]. Three numbers, each a mean over pairs of runs:

    spearman   Spearman's correlation of r_s and r_t over the modules (ties get their mean position)
    jaccard    |H_s ∩ H_t| / |H_s ∪ H_t|,  H_s = { l : r_s[l] > mean of r_s }: the modules that got more than the mean
    overlap    Σ_l min(r_s[l], r_t[l]) / Σ_l max(r_s[l], r_t[l])

Why no Jaccard over the kept components (l, j) here: A is drawn anew for every seed, so component j of one seed has
nothing in common with component j of another. The components of a module are exchangeable, and a Jaccard over their
indices would be at chance whatever the search does. What is left of it when the names of components mean nothing is
`overlap`: the Jaccard of the kept components under the renaming (in each module) that makes them overlap most.

Runs of different methods with the same recipe and seed do start from the same A, whatever data they see; there
component j is component j, and `component_agreement` is the Jaccard over (l, j), pooled over the modules.

No number says anything without its chance level (an overlap of 0.7 is nothing where all ranks are 3 to 5). That is the
mean over random permutations, with their 95 % quantile and p, the share of them that agree at least as well:

    any module      every run's ranks permuted over all modules: does the module matter at all?
    same projection the ranks permuted over the layers, within each projection: does it matter beyond "value gets more
                    than query"? Only for `spearman`; its mean is above 0 where the projections differ.
    components      which of a module's k components are kept, at the ranks as they are

A run with the same rank everywhere has no order of modules and is left out. The same input gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from autolora.lora.places import places

DRAWS = 1000
QUANTILE = 0.95
_ROUNDING = 1e-12  # values closer than this are ties

Array = NDArray[Any]
Kept = Mapping[str, Collection[int]]  # module to the indices of its kept components


@dataclass(frozen=True)
class Measure:
    """A number, and what chance would give: mean and 95 % quantile over permutations, and p (one-sided)."""

    value: float
    chance: float
    high: float
    p: float


@dataclass(frozen=True)
class Agreement:
    """How well `runs` runs agree on the ranks of `modules` modules; see the module's docstring.

    spearman_in_projection: the same value as `spearman`, against layers permuted within each projection.
    """

    runs: int
    modules: int
    spearman: Measure
    spearman_in_projection: Measure
    jaccard: Measure
    overlap: Measure


def agreement(ranks: Sequence[Mapping[str, int]], draws: int = DRAWS) -> Agreement | None:
    """How well the ranks of several runs agree, over the modules that all of them have.

    None where fewer than two runs have ranks that differ between modules.

    Args:
        ranks: Of each run, by full module name.
        draws: Permutations that the chance level is from.
    """
    names = [name for name in ranks[0] if all(name in each for each in ranks)] if ranks else []
    if not names:
        return None
    table = np.array([[each[name] for name in names] for each in ranks], dtype=float)
    table = table[table.min(axis=1) < table.max(axis=1)]
    if len(table) < 2:
        return None
    cells = places(names).cells
    anywhere, projections = np.zeros(len(names), dtype=int), np.array([cells[name][1] for name in names])
    order, above = _standardise(stats.rankdata(table, axis=1)), table > table.mean(axis=1, keepdims=True)
    return Agreement(
        runs=len(table),
        modules=len(names),
        spearman=_against_chance(order, _dot, anywhere, draws),
        spearman_in_projection=_against_chance(order, _dot, projections, draws),
        jaccard=_against_chance(above.astype(float), _min_over_max, anywhere, draws),
        overlap=_against_chance(table, _min_over_max, anywhere, draws),
    )


def component_agreement(pairs: Sequence[tuple[Kept, Kept]], initial_rank: int, draws: int = DRAWS) -> Measure | None:
    """The mean Jaccard of kept components over pairs of runs that share the initialisation of A.

    The chance level draws each module's kept components anew: their number in common is hypergeometric. None without
    pairs, or where a pair keeps nothing at all.

    Args:
        pairs: Of runs; of each the kept components by module.
        initial_rank: k, the components of a module.
        draws: How often they are drawn.
    """
    values, chances = [], []
    generator = np.random.default_rng(0)
    for first, second in pairs:
        names = [name for name in first if name in second]
        ones, twos = (np.array([len(kept[name]) for name in names], dtype=int) for kept in (first, second))
        total = int(ones.sum() + twos.sum())
        if total == 0:
            return None
        common = sum(len(set(first[name]) & set(second[name])) for name in names)
        drawn = generator.hypergeometric(ones, initial_rank - ones, twos, size=(draws, len(names))).sum(axis=1)
        values.append(common / (total - common))
        chances.append(drawn / (total - drawn))
    return _measure(float(np.mean(values)), np.mean(chances, axis=0)) if values else None


def _standardise(order: Array) -> Array:
    """Rows of mean 0 and length 1: their products are correlations."""
    centred = order - order.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.linalg.norm(centred, axis=1, keepdims=True))


def _dot(first: Array, second: Array) -> Array:
    return np.asarray((first * second).sum(axis=-1))


def _min_over_max(first: Array, second: Array) -> Array:
    """Of indicators of sets this is the Jaccard index."""
    return np.asarray(np.minimum(first, second).sum(axis=-1) / np.maximum(first, second).sum(axis=-1))


def _against_chance(table: Array, pair: Callable[[Array, Array], Array], groups: Array, draws: int) -> Measure:
    """The mean of `pair` over pairs of rows, and the same of rows permuted within `groups` of columns."""
    generator = np.random.default_rng(0)
    order = np.empty((draws, *table.shape), dtype=int)
    for group in np.unique(groups):
        columns = np.flatnonzero(groups == group)
        order[..., columns] = generator.permuted(
            np.broadcast_to(columns, (draws, len(table), len(columns))).copy(), axis=-1
        )
    permuted = np.take_along_axis(np.broadcast_to(table, order.shape), order, axis=-1)
    return _measure(float(_over_pairs(table, pair)), _over_pairs(permuted, pair))


def _over_pairs(table: Array, pair: Callable[[Array, Array], Array]) -> Array:
    """table: (..., runs, modules)."""
    found = [pair(table[..., i, :], table[..., j, :]) for i, j in combinations(range(table.shape[-2]), 2)]
    return np.asarray(np.mean(found, axis=0))


def _measure(value: float, chance: Array) -> Measure:
    as_well = int((chance >= value - _ROUNDING).sum())
    high = float(np.quantile(chance, QUANTILE))
    return Measure(value, float(chance.mean()), high, (1 + as_well) / (1 + len(chance)))
