"""What it takes to look at rows: a few batches are timed, and stand for all of them.

Batches are those of `autolora.evaluation.predict`: rows of similar length together. Those that are timed lie in the
middle of equal parts of that order, so that short and long rows count as often as they come. Of outputs that are
decoded a few tokens are, none of which ends one; the whole is taken to say as much as the references do.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from autolora.comparison.probe_steps import clock, spread
from autolora.context.base import Context
from autolora.evaluation.loss import mean_loss
from autolora.evaluation.predict import predict
from autolora.tasks.base import Task, TeacherForced
from autolora.tasks.decoding import inner_model
from autolora.tasks.ends import end_tokens
from autolora.tasks.generation import Generation
from autolora.training.batches import Example

PARTS = 3  # batches that are timed
ROWS = 16  # of each of them on a CPU, where a row takes what it takes; elsewhere all of them
NEW_TOKENS = 8  # of an output
SCORED = 64  # rows that metrics are timed on, where these take long
FEW = 8
NOTHING_SAID = {"log_likelihood": -1.0, "hits": 1, "tokens": 2}  # of the tokens of a reference


def seconds_of_loss(context: Context, model: nn.Module, task: Task, examples: Sequence[Example]) -> float:
    """The mean loss of all examples.

    Args:
        context: Of the recipe.
        model: As it is trained; it is left in evaluation mode.
        task: The recipe's.
        examples: As it encodes them to train on.
    """
    collate = partial(task.collate, tokenizer=context.tokenizer)
    seconds = rows = 0.0
    for batch in _parts(context, examples):
        begun = clock(context)
        mean_loss(model, task, batch, collate, batch_size=len(batch), compute=context.compute)
        seconds, rows = seconds + clock(context) - begun, rows + len(batch)
    return seconds / rows * len(examples)


def seconds_of_rows(
    context: Context,
    model: nn.Module,
    task: Task,
    examples: Sequence[Example],
    references: TeacherForced | None,
    *,
    labelled: bool = True,
) -> float:
    """Predictions of all examples, scores of their references' tokens, and metrics, as far as the recipe wants them.

    Args:
        context: Of the recipe.
        model: As it is trained; it is left in evaluation mode.
        task: The recipe's, or that of the rows by which weights are chosen.
        examples: As it encodes them to predict.
        references: Of these rows, where outputs are decoded or tokens are scored.
        labelled: Whether there are metrics.
    """
    seconds, shown, records = 0.0, list(examples[:SCORED]), [dict[str, Any]() for _ in examples[:SCORED]]
    if task.decodes and (task.predicts or not labelled):
        seconds += _decoding(context, model, task, examples, references)
        records = [_as_if_said(examples, i) for i in range(len(shown))]
    elif task.predicts or not labelled:
        predicted, shown, records = _predicting(context, model, task, examples)
        seconds += predicted
    if task.tokens_scored and references is not None:
        scored, *_ = _predicting(context, model, task, references[0], task.score_tokens)
        seconds += scored
        records = [{**record, **NOTHING_SAID} for record in records]
    return seconds + (_scoring(task, shown, records, len(examples)) if labelled else 0.0)


def _batches(examples: Sequence[Example], size: int) -> list[list[int]]:
    """Positions of the examples of each, from long to short."""
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i]["input_ids"]))
    return [order[i : i + size] for i in range(0, len(order), size)]


def _parts(context: Context, examples: Sequence[Example]) -> Iterator[list[Example]]:
    """What is timed of the batches."""
    batches, few = _batches(examples, context.recipe.eval.batch_size), context.compute.device.type == "cpu"
    for i in spread(len(batches), PARTS):
        yield [examples[k] for k in batches[i][: ROWS if few else None]]


def _predicting(
    context: Context,
    model: nn.Module,
    task: Task,
    examples: Sequence[Example],
    say: Callable[..., list[dict[str, Any]]] | None = None,
) -> tuple[float, list[Example], list[dict[str, Any]]]:
    """Seconds of all; those that were predicted, and what was said."""
    seconds, shown, records = 0.0, list[Example](), list[dict[str, Any]]()
    for batch in _parts(context, examples):
        begun = clock(context)
        records += _said(context, model, task, batch, say)
        seconds += clock(context) - begun
        shown += batch
    return seconds / len(shown) * len(examples), shown, records


def _said(
    context: Context,
    model: nn.Module,
    task: Task,
    batch: Sequence[Example],
    say: Callable[..., list[dict[str, Any]]] | None = None,
) -> list[dict[str, Any]]:
    collate = partial(task.padded, tokenizer=context.tokenizer)
    more: dict[str, Any] = {"tokenizer": context.tokenizer, "compute": context.compute, "say": say}
    return predict(model, task, batch, collate, batch_size=len(batch), **more)


def _decoding(
    context: Context, model: nn.Module, task: Task, examples: Sequence[Example], references: TeacherForced | None
) -> float:
    """Each batch has a pass over its inputs, and one for every token of the longest of its outputs."""
    batches = _batches(examples, context.recipe.eval.batch_size)
    middle = [examples[k] for k in batches[len(batches) // 2]]
    settings = task.evaluation.generation
    new = min(NEW_TOKENS, settings.max_new_tokens)
    brief = copy.copy(task)
    short = settings.model_copy(update={"max_new_tokens": new, "stop": ()})
    brief.evaluation = task.evaluation.model_copy(update={"generation": short})
    own = task.ends(model, context.tokenizer) if isinstance(task, Generation) else ()
    ends = end_tokens(context.tokenizer, (), own)
    with _endless(context, model, ends) as passes:
        _said(context, model, brief, middle[:1])  # warms up
        passes.clear()
        begun = clock(context)
        _said(context, model, brief, middle)
        whole = clock(context) - begun
    first = passes[0] - begun if passes else whole / new
    a_token = (whole - first) / (new - 1) if new > 1 else first
    tokens = _tokens_said(task, len(examples), references)
    return sum(first + (max(tokens[i] for i in batch) - 1) * a_token for batch in batches)


@contextmanager
def _endless(context: Context, model: nn.Module, ends: Sequence[int]) -> Iterator[list[float]]:
    """Inside, no output ends by itself; when each pass of the model had ended."""
    passes: list[float] = []

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        passes.append(clock(context))
        if isinstance(logits := getattr(output, "logits", None), Tensor):
            logits[..., list(ends)] = torch.finfo(logits.dtype).min

    handle = inner_model(model).register_forward_hook(hook)
    try:
        yield passes
    finally:
        handle.remove()


def _tokens_said(task: Task, count: int, references: TeacherForced | None) -> list[int]:
    """How long each output will be: as the longest of its references, or as long as it may, where there is none."""
    most = task.evaluation.generation.max_new_tokens
    longest = [0] * count
    for sequence, owner in zip(*(references or ([], [])), strict=True):
        longest[owner] = max(longest[owner], task.units([sequence]))
    return [min(most, each or most) for each in longest]


def _as_if_said(examples: Sequence[Example], i: int) -> dict[str, Any]:
    """An output as long as outputs are, and as unlike its references as another row's."""
    references = examples[(i + 1) % len(examples)].get("references") or [""]
    return {"prediction": str(references[0])}


def _scoring(task: Task, shown: Sequence[Example], records: Sequence[dict[str, Any]], rows: int) -> float:
    """Metrics of texts take what begins them once, and then every row its time; those of anything else take none."""

    def of(count: int) -> float:
        begun = time.monotonic()
        task.metrics(records[:count], shown[:count])
        return time.monotonic() - begun

    if not task.decodes or len(shown) <= FEW:
        return of(len(shown))
    begin, few, many = of(FEW), of(FEW), of(len(shown))
    a_row = max(0.0, many - few) / (len(shown) - FEW)
    return begin + a_row * max(0, rows - FEW)
