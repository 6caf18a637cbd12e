"""The predictions of a model for the examples of a run, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable
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
    return _said(context, model, examples, title, part)


def add_token_scores(
    context: Context, model: nn.Module, split: str, records: list[dict[str, Any]], title: str, part: Part | None = None
) -> None:
    """Add to every example's record what the model says of its references' tokens, summed over them.

    Args:
        context: Of the run.
        model: With the family's head, adapted or not.
        split: An evaluation split with labels.
        records: Of its examples, in order; "log_likelihood", "hits" and "tokens" are added.
        title: What the bar is called.
        part: Where an interrupted call goes on from.

    Raises:
        RunError: The model's logits are not finite.
    """
    sequences, owners = context.teacher_forced(split)
    scores = _said(context, model, sequences, title, part, context.task.score_tokens)
    for owner, found in zip(owners, scores, strict=True):
        for name, value in found.items():
            records[owner][name] = records[owner].get(name, 0) + value


def _said(
    context: Context,
    model: nn.Module,
    examples: list[Example],
    title: str,
    part: Part | None,
    say: Callable[..., list[dict[str, Any]]] | None = None,
) -> list[dict[str, Any]]:
    with StageProgress(title, show=context.show and context.main) as progress:
        progress.start(0, len(examples))
        try:
            return predict(
                model,
                context.task,
                examples,
                partial(context.task.padded, tokenizer=context.tokenizer),  # a record for each row
                tokenizer=context.tokenizer,
                batch_size=context.recipe.eval.batch_size,
                compute=context.compute,
                part=part,
                on_batch=progress.step,
                say=say,
            )
        except RunError as error:
            raise RunError(f"{title}: {error}") from error
