"""LoRA at one rank everywhere (``lora:4``), and as evenly as AutoLoRA's budget goes (``lora-matched``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from typing_extensions import override

from autolora.methods.base import AUTOLORA, GivenRanks
from autolora.recipe.schema import MethodSettings, Recipe


class Uniform(GivenRanks):
    """The same rank in every target module: `method.size`."""

    @classmethod
    @override
    def check_recipe(cls, recipe: Recipe) -> None:
        cls.size_in(recipe.method)

    @override
    def allocate(self, shapes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        return dict.fromkeys(shapes, self.size)


class Budgeted(GivenRanks):
    """Ranks of the same budget as AutoLoRA's, of the same recipe and seed."""

    @classmethod
    @override
    def needs(cls, recipe: Recipe) -> tuple[MethodSettings, ...]:
        return (AUTOLORA,)


class Matched(Budgeted):
    """As many LoRA parameters as AutoLoRA's result, as evenly as they go."""

    @override
    def allocate(self, shapes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        learned = self.learned()  # AutoLoRA's layers may be others than these
        paid = {name: n + m for name, (n, m) in {**learned.shapes, **shapes}.items()}  # of one rank-1 component
        return nearest_uniform(
            {name: paid[name] for name in shapes}, sum(r * paid[name] for name, r in learned.items())
        )


def nearest_uniform(costs: Mapping[str, int], budget: int) -> dict[str, int]:
    """Ranks r or r + 1 whose parameters, Σ rank · cost, come as close to `budget` as they can without exceeding it.

    Modules of equal cost that get the larger rank lie as far apart as they can, in the modules' order. Where all costs
    are equal, the budget is met exactly if it is a multiple of it.

    Args:
        costs: Parameters of one component of each module.
        budget: Parameters in all.
    """
    base = budget // sum(costs.values())
    left = budget - base * sum(costs.values())
    groups: dict[int, list[str]] = {}
    for name, cost in costs.items():
        groups.setdefault(cost, []).append(name)
    larger = {name for cost, count in _fill(groups, left).items() for name in _spread(groups[cost], count)}
    return {name: base + (name in larger) for name in costs}


def _fill(groups: Mapping[int, Sequence[str]], budget: int) -> dict[int, int]:
    """How many modules of each cost get one more, so that the sum of costs is as large as `budget` allows."""
    best: dict[int, dict[int, int]] = {0: {}}  # what was spent, and on what; few costs differ in a model
    for cost, names in groups.items():
        for spent, counts in list(best.items()):
            for count in range(1, len(names) + 1):
                if spent + count * cost <= budget:
                    best.setdefault(spent + count * cost, {**counts, cost: count})
    return best[max(best)]


def _spread(names: Sequence[str], count: int) -> list[str]:
    """`count` of the names, evenly over their order."""
    return [name for i, name in enumerate(names) if (i + 1) * count // len(names) > i * count // len(names)]
