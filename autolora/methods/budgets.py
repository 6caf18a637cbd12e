"""How many parameters a method may spend: what the recipe says, or what another method's result has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from typing_extensions import override

from autolora.allocation.budget import Budget
from autolora.lora.ranks import Ranks
from autolora.methods.base import Method
from autolora.recipe.method import budget_of
from autolora.recipe.schema import MethodSettings, Recipe

AUTOLORA = MethodSettings(name="autolora")


class Budgeted(Method):
    """A method of a given size: `method.budget`, or `ranks.budget`; else that of AutoLoRA's result.

    A tolerance has no size of its own: it is that of the squeeze that finds it, of the same recipe and seed.
    """

    @classmethod
    @override
    def needs(cls, recipe: Recipe) -> tuple[MethodSettings, ...]:
        source = source_of(recipe)
        return () if source is None else (source,)

    @property
    def source(self) -> Ranks | None:
        """The ranks of the run that the size is taken from; None where the recipe says it."""
        settings = source_of(self.recipe)
        return None if settings is None else self.base_run(settings).ranks()

    def learned(self) -> Ranks:
        """AutoLoRA's ranks, of the same recipe and seed."""
        return self.base_run(AUTOLORA).ranks()

    def parameter_budget(self, shapes: Mapping[str, tuple[int, int]]) -> int:
        """How many parameters the factors may have.

        Args:
            shapes: (input, output) features of the layers that are adapted, by full module name.
        """
        source = self.source
        if source is not None:
            sizes = {**source.shapes, **shapes}  # the source's layers may be others than these
            return sum(rank * sum(sizes[name]) for name, rank in source.items())
        costs = {name: n + m for name, (n, m) in shapes.items()}
        return Budget.of(budget_of(self.recipe).given).limit(costs, self.recipe.search.rank * sum(costs.values()))

    def rank_budget(self, shapes: Mapping[str, tuple[int, int]]) -> int:
        """The same as a sum of ranks: the source's, or what ranks as even as they go add up to.

        Args:
            shapes: See `parameter_budget`.
        """
        source = self.source
        if source is not None:
            return source.total
        costs = {name: n + m for name, (n, m) in shapes.items()}
        return sum(nearest_uniform(costs, self.parameter_budget(shapes)).values())


def source_of(recipe: Recipe) -> MethodSettings | None:
    """The method whose result has the size of a budgeted one; None where the recipe says the size.

    Args:
        recipe: With the budgeted method in it.
    """
    budget = budget_of(recipe)
    if budget.tolerance is not None:  # the recipe's own budget is the squeeze's, too
        return MethodSettings(name="squeeze", budget=recipe.method.budget)
    return None if budget.given else AUTOLORA


def nearest_uniform(costs: Mapping[str, int], budget: int, most: Mapping[str, int] | None = None) -> dict[str, int]:
    """Ranks r or r + 1 whose parameters, Σ rank · cost, come as close to `budget` as they can without exceeding it.

    Modules of equal cost that get the larger rank lie as far apart as they can, in the modules' order. Where all costs
    are equal, the budget is met exactly if it is a multiple of it.

    Where a module cannot have its share, it has what it can, and the others share the rest in the same way, until what
    is left of the budget buys no component that there is.

    Args:
        costs: Parameters of one component of each module.
        budget: Parameters in all.
        most: The largest rank that each module can have; None: any.
    """
    full: dict[str, int] = {}
    ranks: dict[str, int] = {}
    while others := {name: cost for name, cost in costs.items() if name not in full}:
        ranks = _as_even(others, budget - _price(full, costs))
        over = {name: most[name] for name, rank in ranks.items() if rank > most[name]} if most is not None else {}
        if not over:
            break
        full |= over
    found = {name: full.get(name, ranks.get(name, 0)) for name in costs}
    return found if most is None or not full else _topped_up(found, costs, budget, most)


def _price(ranks: Mapping[str, int], costs: Mapping[str, int]) -> int:
    return sum(rank * costs[name] for name, rank in ranks.items())


def _topped_up(
    ranks: Mapping[str, int], costs: Mapping[str, int], budget: int, most: Mapping[str, int]
) -> dict[str, int]:
    """Likewise, with one more wherever there is one and the budget has it left, the lowest rank first."""
    found, left = dict(ranks), budget - _price(ranks, costs)
    while able := [name for name, cost in costs.items() if found[name] < most[name] and cost <= left]:
        lowest = min(able, key=found.__getitem__)
        found[lowest], left = found[lowest] + 1, left - costs[lowest]
    return found


def _as_even(costs: Mapping[str, int], budget: int) -> dict[str, int]:
    """See `nearest_uniform`, where every module can have any rank."""
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
