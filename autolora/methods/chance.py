"""Controls: is it the allocation, or the budget? ``shuffled`` permutes AutoLoRA's ranks, ``random`` draws some."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from typing_extensions import override

from autolora.errors import UserError
from autolora.methods.uniform import Budgeted
from autolora.recipe.schema import Recipe
from autolora.training.seeds import derive, generator


class Control(Budgeted):
    """Other ranks for the layers that AutoLoRA had."""

    @classmethod
    @override
    def check_recipe(cls, recipe: Recipe) -> None:
        if recipe.method.targets is not None:
            raise UserError(f"method {recipe.method.name!r} gives AutoLoRA's own layers other ranks; leave targets out")


class Shuffled(Control):
    """AutoLoRA's own ranks, permuted at random over the modules (of one shape, so that the budget stays the same)."""

    @override
    def allocate(self, shapes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        learned, rng = self.learned(), generator(derive(self.recipe.seed, "shuffled"))
        ranks: dict[str, int] = {}
        for shape in dict.fromkeys(shapes.values()):
            names = [name for name in shapes if shapes[name] == shape]
            order = torch.randperm(len(names), generator=rng).tolist()
            ranks |= {name: learned[names[j]] for name, j in zip(names, order, strict=True)}
        return {name: ranks[name] for name in shapes}


class Random(Control):
    """Random ranks from 0 to k with the sum of AutoLoRA's: so many of all n k components, drawn without replacement."""

    @override
    def allocate(self, shapes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        learned, k = self.learned(), self.recipe.search.rank
        rng = generator(derive(self.recipe.seed, "random"))
        ranks = dict.fromkeys(shapes, 0)
        for shape in dict.fromkeys(shapes.values()):
            names = [name for name in shapes if shapes[name] == shape]
            drawn = torch.randperm(len(names) * k, generator=rng)[: sum(learned[name] for name in names)]
            for i in drawn.tolist():
                ranks[names[i // k]] += 1
        return ranks
