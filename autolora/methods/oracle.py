"""Controls on planted truth: the ranks that were planted (``oracle``), and uniform ones of that size.

``oracle`` is what a perfect search would find; ``oracle-uniform`` has as many parameters as it, as evenly as they go. A
method at that size lies between the two if its allocation is worth anything.
"""

from __future__ import annotations

from collections.abc import Mapping

from typing_extensions import override

from autolora.errors import UserError
from autolora.methods.budgets import nearest_uniform
from autolora.methods.peft import GivenRanks
from autolora.planted.ranks import planted_ranks
from autolora.recipe.schema import Recipe


class Oracle(GivenRanks):
    """The true ranks, from scratch."""

    @classmethod
    @override
    def check_recipe(cls, recipe: Recipe) -> None:
        try:
            planted_ranks(recipe)
        except UserError as error:
            raise UserError(f"method {recipe.method.name!r}: {error}; take a recipe of recipes/planted/") from None

    @override
    def allocate(self, shapes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        """Layers that are no targets get nothing, whatever was planted in them."""
        planted = planted_ranks(self.recipe)
        return {name: planted.get(name, 0) for name in shapes}


class OracleUniform(Oracle):
    """Uniform ranks at the parameters of the true ones, or the nearest number below."""

    @override
    def allocate(self, shapes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        costs = {name: n + m for name, (n, m) in shapes.items()}
        planted = super().allocate(shapes)
        return nearest_uniform(costs, sum(rank * costs[name] for name, rank in planted.items()))
