"""The true ranks of a recipe's planted model: ``planted_ranks(recipe)``."""

from __future__ import annotations

from autolora.errors import UserError
from autolora.lora.ranks import Ranks
from autolora.planted.kinds import KINDS, PREFIX, is_planted, kind_of, layer_shapes
from autolora.planted.truth import true_ranks
from autolora.recipe.schema import Recipe


def planted_ranks(recipe: Recipe) -> Ranks:
    """What was planted, r_l of every linear layer of the backbone, at the scaling of the search.

    Its `parameters` are what a budget of the same size may spend.

    Args:
        recipe: Whose model and seed say what was planted.

    Raises:
        UserError: Nothing was: the model is another one.
    """
    if not is_planted(recipe.model.name):
        names = ", ".join(f"{PREFIX}{kind}" for kind in KINDS)
        raise UserError(
            f"the true ranks are known of planted models only ({names}), and model.name is {recipe.model.name!r}"
        )
    kind, search = kind_of(recipe.model.name), recipe.search
    return Ranks(
        true_ranks(kind, recipe.seed),
        initial_rank=search.rank,
        lora_alpha=search.lora_alpha,
        shapes=layer_shapes(),
        rule={"planted": kind, "seed": recipe.seed},
    )
