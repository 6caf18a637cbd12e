"""What is compared where nobody says it: ``default_methods(recipes)``."""

from __future__ import annotations

from collections.abc import Sequence

from autolora.errors import UserError
from autolora.recipe.method import label
from autolora.recipe.schema import MethodSettings, Recipe

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


def own_methods(recipes: Sequence[Recipe]) -> list[MethodSettings]:
    """The method of the recipes themselves, which a sweep varies the settings of.

    Args:
        recipes: What is compared on.

    Raises:
        UserError: They have different ones.
    """
    found = list(dict.fromkeys(recipe.method for recipe in recipes))
    if len(found) > 1:
        said = ", ".join(f"{recipe.name} has {label(recipe.method)}" for recipe in recipes)
        raise UserError(f"--methods: the recipes have different methods ({said}); name those to compare")
    return found
