"""What a checkpoint or a search of a recipe depends on, as a hash: ``identity_of(recipe, hashes, "search", …)``."""

from __future__ import annotations

import hashlib
import json

from autolora.recipe.schema import Recipe


def identity_of(recipe: Recipe, data: object, *parts: object) -> str:
    """A hash of task, seed, model, data, loss, and the parts.

    Args:
        recipe: Which has the former.
        data: What its splits hold, JSON-able.
        parts: What else is to be in it, likewise.
    """
    given = {"hashes": data, "data": recipe.data.model_dump(mode="json", exclude={"root", "splits"})}
    model = recipe.model.model_dump(mode="json")
    if recipe.method.targets is not None:
        model["target_modules"] = recipe.method.targets
    share = recipe.retrain.kept_out
    kept_out = [] if share is None else [{"kept out": share}]
    text = json.dumps(
        [recipe.task, recipe.seed, model, given, recipe.loss.model_dump(), *parts, *kept_out],
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()
