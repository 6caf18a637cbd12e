"""Predictions for a whole split: every example once, in order, whatever the batch size or number of processes.

A prediction is made of finite logits, or there is none: argmax of NaN is a class like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from autolora.causes import loaded
from autolora.errors import RunError
from autolora.evaluation.in_step import in_step
from autolora.evaluation.part import Part
from autolora.tasks.base import Task
from autolora.tasks.decoding import inner_model
from autolora.training.batches import Collate, Example, load_of_batch
from autolora.training.compute import Compute


def predict(
    model: nn.Module,
    task: Task,
    examples: Sequence[Example],
    collate: Collate,
    *,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
    compute: Compute,
    part: Part | None = None,
    on_batch: Callable[[int], None] = lambda done: None,
    say: Callable[..., list[dict[str, Any]]] | None = None,
) -> list[dict[str, Any]]:
    """One record per example, in the examples' order, on every process. In float32, without dropout.

    Batches are made of examples of similar length; each process takes its share of the batches.

    Args:
        model: With the task's head, on the device; it is left in evaluation mode.
        task: Which predicts.
        examples: As the task encodes them.
        collate: Turns examples into tensors on the CPU.
        tokenizer: The model's, for what is decoded.
        batch_size: Examples of a pass.
        compute: The device, and the processes that share the work.
        part: What an interrupted call has done is read from there, and what this one does is added.
        on_batch: Told how many examples this process has done.
        say: What makes the records of a batch (model, batch, tokenizer); None: the task's `predict`.

    Raises:
        RunError: The model's logits for an example are not finite.
        RuntimeError: An example was predicted twice, or not at all.
    """
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i]["input_ids"]))
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    mine: list[tuple[int, dict[str, Any]]] = list(part.records()) if part else []
    before = {index for index, _ in mine}
    model.eval()
    done = len(mine)
    on_batch(done)
    left = [each for each in batches[compute.process :: compute.processes] if not before.issuperset(each)]
    with compute.without_gradients(), _watched(model) as flags:
        for indices, counts in in_step(left, compute, batches[-1] if batches else ()):
            batch = collate([examples[i] for i in indices])
            with loaded(load_of_batch(batch)):
                batch = {k: v.to(compute.device) for k, v in batch.items()}
                records_of = list(zip(indices, (say or task.predict)(model, batch, tokenizer), strict=True))
            _check(flags, indices)
            if not counts:
                continue
            mine += records_of
            if part:
                part.add(records_of)
            done += len(indices)
            on_batch(done)
    gathered = compute.gather(mine)
    records = dict(gathered)
    if len(records) != len(examples) or len(gathered) != len(examples):
        raise RuntimeError(f"{len(gathered)} predictions for {len(examples)} examples")
    return [records[i] for i in range(len(examples))]


@contextmanager
def _watched(model: nn.Module) -> Iterator[list[Tensor]]:
    """Inside, every pass adds which of its rows have logits that are not finite: booleans on the device, (rows,)."""
    flags: list[Tensor] = []

    def hook(module: nn.Module, inputs: Any, given: Mapping[str, Any], output: Any) -> None:
        if isinstance(logits := getattr(output, "logits", None), Tensor):
            flags.append(_not_finite(logits, given.get("attention_mask")))

    inner = inner_model(model)  # which decodes by itself, and is not called where its wrapper is
    hooks = [each.register_forward_hook(hook, with_kwargs=True) for each in dict.fromkeys([model, inner])]
    try:
        yield flags
    finally:
        for handle in hooks:
            handle.remove()


def _not_finite(logits: Tensor, mask: Any) -> Tensor:
    """By row, whether there is a logit that is not finite: at no padding, and at the last position while decoding."""
    wrong = ~logits.isfinite().all(-1)  # (rows,) or (rows, positions)
    if wrong.ndim == 1:
        return wrong
    if isinstance(mask, Tensor) and mask.shape == wrong.shape:
        return (wrong & mask.bool()).any(1)
    return wrong[:, -1] if wrong.ndim == 2 else wrong.flatten(1).any(1)


def _check(flags: list[Tensor], indices: Sequence[int]) -> None:
    """See what a batch's passes had, once its predictions are there and nothing is left to wait for.

    Raises:
        RunError: Something in it was not finite.
    """
    found, count = list(flags), len(indices)
    flags.clear()
    if not found or not bool(torch.cat(found).any()):
        return
    # Beams of an example follow each other; a pass of other rows than the batch's says no more than that it was wrong.
    of_rows = [each.view(count, -1).any(1) for each in found if each.numel() % count == 0]
    wrong = torch.stack(of_rows).any(0).tolist() if of_rows else []
    first = min((index for index, bad in zip(indices, wrong, strict=False) if bad), default=indices[0])
    raise RunError(
        f"the model's logits are not finite, for example {first + 1} to begin with: the training has diverged; lower "
        "its learning rate, and start a new run"
    )
