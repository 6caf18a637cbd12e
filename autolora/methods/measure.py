"""Fisher information and rises of the loss on examples of a recipe's training split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import nn

from autolora.allocation.components import Components
from autolora.allocation.gates import Gates, measure_gates
from autolora.allocation.rises import Rises
from autolora.allocation.rows import Rows, rows_of
from autolora.allocation.told import untold
from autolora.console import warn
from autolora.context.base import Context
from autolora.errors import UserError
from autolora.evaluation.loss import mean_loss
from autolora.lora.adapter import lora_layers
from autolora.recipe.schema import Recipe
from autolora.training.batches import Example, TensorBatch
from autolora.training.seeds import derive, generator

EARLY = 0.97  # of the loss of guessing: CoLA with MiniLM is at .99 after half of 400 steps, and at .90 at the end


def sample(examples: Sequence[Example], recipe: Recipe) -> list[Example]:
    """`ranks.examples` of them, or all where there are fewer.

    Args:
        examples: Of the training split, or of a part of it.
        recipe: With its seed.
    """
    order = torch.randperm(len(examples), generator=generator(derive(recipe.seed, "ranks"))).tolist()
    return [examples[i] for i in order[: recipe.ranks.examples]]


def held_out(examples: Sequence[Example], recipe: Recipe) -> tuple[list[Example], list[Example]]:
    """The examples that are trained on, and the share `ranks.held_out` that a tolerance is measured on.

    Args:
        examples: Of the training split.
        recipe: With the share and the seed.

    Raises:
        UserError: One of the two would be empty.
    """
    share = recipe.ranks.held_out
    count = round(share * len(examples))
    if not 0 < count < len(examples):
        raise UserError(
            f"ranks.held_out: {share} of {len(examples)} training examples leaves {len(examples) - count} "
            f"to train on and {count} to measure the rise of the loss on; both need at least one"
        )
    order = torch.randperm(len(examples), generator=generator(derive(recipe.seed, "held out"))).tolist()
    return [examples[i] for i in sorted(order[count:])], [examples[i] for i in sorted(order[:count])]


def measured_gates(
    context: Context,
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    components: Mapping[str, Components],
    examples: Sequence[Example],
    recipe: Recipe,
) -> Gates:
    """The derivatives of the log-likelihood to the components' gates; the same on every process.

    In micro-batches, or example by example where a layer's rows could not be told apart otherwise.

    Args:
        context: Of the run.
        model: Adapted.
        layers: Its LoRA layers by full module name.
        components: Of these layers.
        examples: What is measured on.
        recipe: With the batch size and the seed.
    """
    loss = partial(context.task.sampled_loss, model)
    size = -(-recipe.retrain.batch_size // recipe.retrain.gradient_accumulation)  # of a micro-batch
    first = next(_batches(context, examples, size), None)
    if first is not None and untold(model, layers, components, *first, loss) is not None:
        size = 1
    batches = _batches(context, examples, size)
    return measure_gates(model, layers, components, batches, loss, seed=derive(recipe.seed, "fisher"))


def rises_of(
    context: Context,
    adapted: nn.Module,
    components: Mapping[str, Components],
    examples: Sequence[Example],
    recipe: Recipe,
) -> Rises:
    """What measures the rise of the task's mean loss, in float32 and without dropout.

    Args:
        context: Of the run.
        adapted: A model with all components.
        components: Of its LoRA layers.
        examples: What is measured on.
        recipe: With the batch size.
    """
    adapted.to(context.compute.device)
    layers = {name: layer for name, layer in lora_layers(adapted).items() if isinstance(layer, nn.Module)}
    return Rises(layers, components, _mean_loss(context, adapted, examples, recipe))


def say_if_early(
    context: Context, adapted: nn.Module, examples: Sequence[Example], recipe: Recipe, begun: int, total: int
) -> dict[str, float]:
    """Says so where a model is hardly better than guessing, so that its components cannot be told apart yet.

    Args:
        context: Of the run.
        adapted: The model after the beginning.
        examples: What is measured on.
        recipe: With the batch size.
        begun: Steps of the beginning.
        total: Steps of the whole training.

    Returns:
        The loss, and that of guessing; nothing where the task knows none.
    """
    guess = context.task.guess(examples)
    if guess is None:
        return {}
    loss = _mean_loss(context, adapted, examples, recipe)()
    if context.main and loss > EARLY * guess:
        warn(
            f"after {begun} of {total} steps the loss on {len(examples)} training examples is {loss:.4g}, and saying "
            f"the same of every one has {guess:.4g}: hardly anything has been learned that components could be told "
            f"apart by, and what is kept of them is likely to be worse than a small rank from the beginning; squeeze "
            f"later than at {recipe.search.at}, or train longer"
        )
    return {"loss": round(loss, 6), "guessing": round(guess, 6)}


def _mean_loss(
    context: Context, adapted: nn.Module, examples: Sequence[Example], recipe: Recipe
) -> Callable[[], float]:
    """What gives the task's mean loss, in float32 and without dropout."""
    return partial(
        mean_loss,
        adapted,
        context.task,
        examples,
        partial(context.task.collate, tokenizer=context.tokenizer),
        batch_size=recipe.eval.batch_size,
        compute=context.compute,
    )


def steps_to_measure(examples: int, recipe: Recipe) -> int:
    """What measuring Fisher information takes, in training steps.

    Args:
        examples: How many are measured on.
        recipe: With the batch size.
    """
    return -(-examples // recipe.retrain.batch_size)


def with_measuring(counted: Mapping[str, int], examples: int, recipe: Recipe) -> dict[str, int]:
    """The passes of a training, and those of measuring Fisher information after it.

    Args:
        counted: "forward_passes" and "backward_passes", and whatever else is counted.
        examples: How many were measured on.
        recipe: With the batch size.
    """
    more = steps_to_measure(examples, recipe)
    return {name: count + more if name.endswith("_passes") else count for name, count in counted.items()}


def _batches(context: Context, examples: Sequence[Example], size: int) -> Iterator[tuple[TensorBatch, Rows]]:
    """So many examples each, similar lengths together."""
    ordered = sorted(examples, key=lambda example: -len(example["input_ids"]))
    for i in range(0, len(ordered), size):
        batch = context.task.collate(ordered[i : i + size], context.tokenizer)
        rows = rows_of(batch)
        yield {name: tensor.to(context.compute.device) for name, tensor in batch.items()}, rows
