"""Methods in two spellings: ``twice(recipes, methods)``. Both would be run, and counted in every correction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from autolora.methods.base import method_class
from autolora.recipe.method import RATIO, SQUEEZES, beginning_share, budget_of, label
from autolora.recipe.schema import MethodSettings, Recipe


def twice(recipes: Sequence[Recipe], methods: Sequence[MethodSettings]) -> Iterator[str]:
    """What is wrong with methods that are the same one for every recipe: ``lora-grid,lora-grid:16``, for instance.

    Args:
        recipes: What is compared on.
        methods: What is compared.
    """
    for one, other in combinations(methods, 2):
        if one == other or one.name != other.name:
            continue
        if all(_written_out(recipe, one) == _written_out(recipe, other) for recipe in recipes):
            yield f"--methods: {label(one)!r} and {label(other)!r} are one method here; leave one of them out"


def _written_out(recipe: Recipe, method: MethodSettings) -> MethodSettings:
    """A method with what the recipe or a default says in place of what it leaves out."""
    kind, recipe = method_class(method.name), recipe.model_copy(update={"method": method})
    squeeze = method.name in SQUEEZES
    searched = recipe.search.rank if squeeze or method.name == "svd" else None
    targets = method.targets or recipe.model.target_modules
    written = {
        "size": method.size or kind.default_size or searched,
        "at": beginning_share(recipe.search, method) if squeeze else method.at,
        "budget": method.budget if method.name == "autolora" else budget_of(recipe),  # for it, one chooses the rule
        "learning_rate": kind.weights_in(recipe).learning_rate,
        "ratio": (method.ratio or RATIO) if method.name == "lora-plus" else method.ratio,
        "targets": targets if isinstance(targets, str) or targets is None else tuple(sorted(targets)),
    }
    return method.model_copy(update=written)
