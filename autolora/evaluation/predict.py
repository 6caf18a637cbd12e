"""Predictions for a whole split: every example once, in order, whatever the batch size or number of processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from autolora.evaluation.part import Part
from autolora.tasks.base import Task
from autolora.training.batches import Collate, Example
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

    Raises:
        RuntimeError: An example was predicted twice, or not at all.
    """
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i]["input_ids"]))
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    mine: list[tuple[int, dict[str, Any]]] = list(part.records()) if part else []
    before = {index for index, _ in mine}
    model.eval()
    done = len(mine)
    on_batch(done)
    with torch.inference_mode():
        for indices in batches[compute.process :: compute.processes]:
            if before.issuperset(indices):
                continue
            batch = {k: v.to(compute.device) for k, v in collate([examples[i] for i in indices]).items()}
            records_of = list(zip(indices, task.predict(model, batch, tokenizer), strict=True))
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
