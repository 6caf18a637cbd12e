"""The bilevel search on a recipe's model and data: ``bilevel_search(context, model, head, recipe.search)``."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedModel

from autolora.bilevel.loop import BilevelSearch
from autolora.context.base import Context
from autolora.data.split import split_train
from autolora.lora.selection import add_selection
from autolora.recipe.schema import Recipe, Search
from autolora.training.batches import Example


def bilevel_search(
    context: Context, model: PreTrainedModel, head: Sequence[str], settings: Search
) -> tuple[BilevelSearch, int]:
    """The search of a model, which gets selection layers in place, and the number of its steps.

    Args:
        context: Of the run.
        model: The pretrained model.
        head: Full names of the head's modules, which are trained along.
        settings: Of the search.
    """
    recipe = context.recipe
    train, validation = divide(context.examples(recipe.data.splits.train), settings, recipe.seed)
    layers = add_selection(
        model,
        context.targets(model),
        rank=settings.rank,
        lora_alpha=settings.lora_alpha,
        dropout=settings.lora_dropout,
        constraint=settings.constraint,
    )
    for name in head:
        model.get_submodule(name).requires_grad_(True)
    model.train()
    total = settings.total_steps(len(train))
    stage = BilevelSearch(
        model,
        layers,
        context.gradients(model, double_backward=settings.meta_learning and settings.estimator == "exact"),
        context.stream(train, settings, "train"),
        context.stream(validation, settings, "validation", settings.validation_batch_size),
        settings,
        total=total,
        seed=recipe.seed,
        identity=context.identity("search", settings.model_dump(mode="json")),
    )
    return stage, total


def validation_examples(recipe: Recipe, examples: int) -> int:
    """How many of the training examples are D_val.

    Args:
        recipe: With its search section.
        examples: How many there are.
    """
    return round(examples * recipe.search.validation_fraction) if recipe.search.meta_learning else 0


def divide(examples: list[Example], settings: Search, seed: int) -> tuple[list[Example], list[Example]]:
    """D_tr and D_val; all of the data for both where there is only one level.

    Args:
        examples: Of the training split.
        settings: Of the search.
        seed: The recipe's.
    """
    if not settings.meta_learning:
        return examples, examples
    train, validation = split_train(len(examples), settings.validation_fraction, seed)
    return [examples[i] for i in train], [examples[i] for i in validation]
