"""What is compared where nobody says it: ``default_methods(recipes)``."""

from __future__ import annotations

from collections.abc import Sequence

from autolora.errors import UserError
from autolora.recipe.schema import Recipe

PAPER = "autolora,lora:4,lora:8,lora-matched,shuffled,adalora,svd"


def default_methods(recipes: Sequence[Recipe], searching: str = PAPER) -> str:
    """The methods for recipes that search, or for those that squeeze: there with LoRA at the ranks they begin with.

    Args:
        recipes: What is compared on.
        searching: Methods for recipes with selection variables.

    Returns:
        Words for `autolora.recipe.method.parse_methods`.

    Raises:
        UserError: There are recipes of both kinds.
    """
    squeezing = [recipe for recipe in recipes if not recipe.search.selects]
    if not squeezing:
        return searching
    if len(squeezing) < len(recipes):
        other = next(recipe for recipe in recipes if recipe.search.selects)
        raise UserError(
            f"--methods: {squeezing[0].name} has search.estimator: none and {other.name} learns selection variables; "
            "name methods that both can do, as in --methods squeeze:budget=rank=1,lora-matched:budget=rank=1,lora:8"
        )
    ranks = sorted({recipe.search.rank for recipe in recipes})
    return ",".join(["squeeze", "squeeze-uniform", "lora-matched", *(f"lora:{rank}" for rank in ranks)])
