"""What steps take: a few are timed on batches that lie between the longest and the shortest of an epoch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from autolora.allocation.components import components_of
from autolora.context.base import Context
from autolora.lora.adapter import add_adapter, lora_layers, uses_conv1d
from autolora.lora.config import lora_config
from autolora.lora.ranks import Ranks
from autolora.lora.targets import target_shapes
from autolora.methods.measure import measured_gates
from autolora.training.batches import Batch, BatchStream, Example
from autolora.training.finetune import Finetuning

if TYPE_CHECKING:
    from autolora.bilevel.loop import BilevelSearch

STEPS = 3  # of either kind that are timed, after one that warms up
MEASURED = 3  # batches that Fisher information is measured on for the time of one


def spread(count: int, parts: int) -> list[int]:
    """Positions in the middle of equal parts.

    Args:
        count: Of what there is, at least 1.
        parts: How many, at most.
    """
    parts = min(count, parts)
    return [int((part + 0.5) * count / parts) for part in range(parts)]


def clock(context: Context) -> float:
    """Seconds, once the device has done what it was asked for.

    Args:
        context: Of the recipe.
    """
    if context.compute.device.type != "cpu":
        torch.accelerator.synchronize()
    return time.monotonic()


def finetuning(context: Context, model: PreTrainedModel, head: Sequence[str]) -> tuple[PeftModel, Finetuning]:
    """A LoRA of rank k everywhere, and its training.

    Args:
        context: Of the recipe.
        model: The pretrained model, which gets it in place.
        head: Full names of the head's modules.
    """
    recipe, k = context.recipe, context.recipe.search.rank
    shapes = target_shapes(model, context.targets(model))
    ranks = Ranks(dict.fromkeys(shapes, k), k, recipe.search.lora_alpha, shapes=shapes)
    config = lora_config(
        ranks,
        head=head,
        task_type=context.task.peft_task_type,
        fan_in_fan_out=uses_conv1d(model, list(ranks)),
    )
    adapted = add_adapter(model, ranks, config).train()
    stage = Finetuning(
        adapted,
        context.gradients(adapted),
        context.stream(context.examples(recipe.data.splits.train), recipe.retrain, "retrain"),
        recipe.retrain.weights,
        total=STEPS + 1,
        seed=recipe.seed,
    )
    return adapted, stage


class Chosen:
    """Batches of a stream that stand for all of an epoch's: one that warms up, then some from long to short.

    Args:
        stream: Of all batches.
    """

    def __init__(self, stream: BatchStream) -> None:
        epoch = range(stream.batches_per_epoch)
        order = sorted(epoch, key=lambda step: -max(stream.lengths[i] for i in stream.indices(step)))
        chosen = [order[i] for i in spread(len(order), STEPS)]
        self.stream, self.steps = stream, cycle([*chosen[1:], chosen[0]])

    def at(self, step: int) -> Batch:
        """The next of them, whichever step asks; see `autolora.training.batches.Batches`."""
        return self.stream.at(next(self.steps))


def seconds_of_step(stage: Finetuning | BilevelSearch, context: Context) -> float:
    """The mean of a step, once warm; of a search, over steps with and without selection variables as they follow.

    Args:
        stage: Which takes them; its batches are replaced.
        context: Of the recipe.
    """
    for name in ("train", "validation"):
        if isinstance(stream := getattr(stage, name, None), BatchStream):
            setattr(stage, name, Chosen(stream))
    every = 1 if isinstance(stage, Finetuning) else stage.settings.selection.every
    selecting = _seconds(stage, context, [(i + 1) * every - 1 for i in range(STEPS + 1)])
    if every == 1:
        return selecting
    return (selecting + (every - 1) * _seconds(stage, context, [i * every for i in range(STEPS + 1)])) / every


def _seconds(stage: Finetuning | BilevelSearch, context: Context, steps: Sequence[int]) -> float:
    """The mean of these steps but the first, which warms up."""
    stage.advance(steps[0])
    begun = clock(context)
    for step in steps[1:]:
        stage.advance(step)
    return (clock(context) - begun) / STEPS


def seconds_of_measuring(context: Context, adapted: PeftModel, batch: Sequence[Example]) -> float:
    """The passes over a batch that measure Fisher information; those that come once hardly count, being shared out.

    Args:
        context: Of the recipe.
        adapted: After some steps.
        batch: Examples of the training split.
    """
    layers: dict[str, Any] = dict(lora_layers(adapted))
    components = components_of(layers)
    begun = clock(context)
    measured_gates(context, adapted, layers, components, [*batch] * MEASURED, context.recipe)
    return (clock(context) - begun) / MEASURED
