"""LoRA at one rank everywhere (``lora:4``), and as evenly as a budget goes (``lora-matched``)."""

from __future__ import annotations

from collections.abc import Mapping

from typing_extensions import override

from autolora.methods.budgets import Budgeted, nearest_uniform
from autolora.methods.peft import GivenRanks
from autolora.recipe.schema import Recipe


class Uniform(GivenRanks):
    """The same rank in every target module: `method.size`."""

    @classmethod
    @override
    def check_recipe(cls, recipe: Recipe) -> None:
        cls.size_in(recipe.method)

    @override
    def allocate(self, shapes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        return dict.fromkeys(shapes, self.size)


class Matched(Budgeted, GivenRanks):
    """As many LoRA parameters as the budget, or AutoLoRA's result, has; as evenly as they go."""

    @override
    def allocate(self, shapes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        return nearest_uniform({name: n + m for name, (n, m) in shapes.items()}, self.parameter_budget(shapes))
