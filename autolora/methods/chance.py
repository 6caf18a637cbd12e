"""Controls: is it the allocation, or the budget? ``shuffled`` permutes AutoLoRA's ranks, ``random`` draws some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from typing_extensions import override

from autolora.allocation.budget import choose
from autolora.errors import UserError
from autolora.methods.budgets import AUTOLORA, Budgeted
from autolora.methods.peft import GivenRanks
from autolora.recipe.schema import MethodSettings, Recipe
from autolora.training.seeds import derive, generator


def shuffled(
    ranks: Mapping[str, int],
    shapes: Mapping[str, tuple[int, int]],
    seed: int,
    most: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Ranks permuted at random over the modules of one shape, so that the number of parameters stays the same.

    Where a permutation would give a module more than it can have, another one is drawn from those that do not.

    Args:
        ranks: By full module name.
        shapes: (input, output) features by the same names.
        seed: Of the permutation.
        most: The largest rank that each module can have, which `ranks` keeps to; None: any.
    """
    rng, found = generator(seed), dict(ranks)
    for shape in dict.fromkeys(shapes.values()):
        names = [name for name in shapes if shapes[name] == shape]
        order = torch.randperm(len(names), generator=rng).tolist()
        drawn = {name: ranks[names[j]] for name, j in zip(names, order, strict=True)}
        if most is not None and any(rank > most[name] for name, rank in drawn.items()):
            drawn = _fitting([ranks[name] for name in names], {name: most[name] for name in names}, rng)
        found |= drawn
    return {name: found[name] for name in shapes}


def _fitting(ranks: Sequence[int], most: Mapping[str, int], rng: torch.Generator) -> dict[str, int]:
    """A permutation that fits, each as likely as any other.

    The largest rank comes first: who can have it can have all that follow, so that no choice leads into a dead end, and
    how many there are to choose from does not depend on the choices before.
    """
    found: dict[str, int] = {}
    for rank in sorted(ranks, reverse=True):
        able = [name for name, limit in most.items() if name not in found and limit >= rank]
        found[able[int(torch.randint(len(able), (), generator=rng))]] = rank
    return found


class Control(Budgeted, GivenRanks):
    """Other ranks for the layers that AutoLoRA had."""

    @classmethod
    @override
    def check_recipe(cls, recipe: Recipe) -> None:
        if recipe.method.targets is not None and cls.needs(recipe):
            raise UserError(f"method {recipe.method.name!r} gives AutoLoRA's own layers other ranks; leave targets out")


class Shuffled(Control):
    """AutoLoRA's own ranks, permuted at random over the modules (of one shape, so that the budget stays the same)."""

    @classmethod
    @override
    def needs(cls, recipe: Recipe) -> tuple[MethodSettings, ...]:
        return (AUTOLORA,)

    @override
    def allocate(self, shapes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        return shuffled(self.learned(), shapes, derive(self.recipe.seed, "shuffled"))


class Random(Control):
    """Random ranks from 0 to k: components drawn without replacement among all n k.

    As many in modules of each shape as AutoLoRA's result has; or, with a budget, each that still fits into it.
    """

    @override
    def allocate(self, shapes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        k, rng = self.recipe.search.rank, generator(derive(self.recipe.seed, "random"))
        learned = self.source
        if learned is None:
            costs = {name: n + m for name, (n, m) in shapes.items()}
            values = {name: costs[name] * torch.rand(k, generator=rng, dtype=torch.float64) for name in shapes}
            return {name: len(kept) for name, kept in choose(values, costs, self.parameter_budget(shapes)).items()}
        ranks = dict.fromkeys(shapes, 0)
        for shape in dict.fromkeys(shapes.values()):
            names = [name for name in shapes if shapes[name] == shape]
            drawn = torch.randperm(len(names) * k, generator=rng)[: sum(learned[name] for name in names)]
            for i in drawn.tolist():
                ranks[names[i // k]] += 1
        return ranks
