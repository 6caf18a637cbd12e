"""The paper's ablations of AutoLoRA: ``no-constraint``, ``sigmoid``, ``no-meta``."""

from __future__ import annotations

from typing_extensions import override

from autolora.methods.autolora import AutoLora
from autolora.recipe.schema import Recipe


class NoConstraint(AutoLora):
    """Ablation: a = z, free; the threshold is each layer's mean."""

    @classmethod
    @override
    def effective(cls, recipe: Recipe) -> Recipe:
        return _searching(recipe, constraint="none", threshold=None)


class Sigmoid(AutoLora):
    """Ablation: a = sigmoid(z), element-wise; the threshold is 0.5."""

    @classmethod
    @override
    def effective(cls, recipe: Recipe) -> Recipe:
        return _searching(recipe, constraint="sigmoid", threshold=None)


class NoMeta(AutoLora):
    """Ablation: one level, z and V learn from the same data with plain gradients."""

    @classmethod
    @override
    def effective(cls, recipe: Recipe) -> Recipe:
        return _searching(recipe, meta_learning=False)


def _searching(recipe: Recipe, **changes: object) -> Recipe:
    return recipe.model_copy(update={"search": recipe.search.model_copy(update=changes)})
