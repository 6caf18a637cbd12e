"""What makes two trials one: ``trial_key(recipe)``; and what trials of one recipe share: ``settings_key(recipe)``."""

from __future__ import annotations

import json

from autolora.recipe.schema import MethodSettings, Recipe

_PLAIN = MethodSettings()


def trial_key(recipe: Recipe) -> str:
    """What two recipes of one trial have in common: all that has a bearing on the result.

    Args:
        recipe: With method and seed in it.
    """
    values = recipe.model_dump(
        mode="json", exclude={"description": True, "card": True, "data": {"root"}, "eval": {"submission"}}
    )
    for stage in ("search", "retrain"):
        for field in ("checkpoint_every", "log_every"):
            values[stage].pop(field)
    return json.dumps(values, sort_keys=True)


def settings_key(recipe: Recipe) -> str:
    """What trials of one recipe have in common, whatever their methods and seeds.

    Args:
        recipe: With method and seed in it.
    """
    return trial_key(recipe.model_copy(update={"method": _PLAIN, "seed": 0}))
