"""The predictions of a model for the examples of a run, with a progress bar."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from autolora.console import StageProgress
from autolora.context.base import Context
from autolora.errors import RunError
from autolora.evaluation.part import Part
from autolora.evaluation.predict import predict
from autolora.training.batches import Example


def predictions_of(
    context: Context, model: nn.Module, examples: list[Example], title: str, part: Part | None = None
) -> list[dict[str, Any]]:
    """The model's prediction for every example, with a progress bar.

    Args:
        context: Of the run.
        model: With the family's head, adapted or not.
        examples: Of one split.
        title: What the bar is called.
        part: Where an interrupted call goes on from.

    Returns:
        The task's records, in the examples' order.

    Raises:
        RunError: The model's logits are not finite.
    """
    with StageProgress(title, show=context.show and context.main) as progress:
        progress.start(0, len(examples))
        try:
            return predict(
                model,
                context.task,
                examples,
                partial(context.task.collate, tokenizer=context.tokenizer),
                tokenizer=context.tokenizer,
                batch_size=context.recipe.eval.batch_size,
                compute=context.compute,
                part=part,
                on_batch=progress.step,
            )
        except RunError as error:
            raise RunError(f"{title}: {error}") from error
