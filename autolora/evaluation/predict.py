"""Predictions for a whole split: every example once, in order, whatever the batch size or number of processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from autolora.tasks.base import Task
from autolora.training.batches import Collate, Example


def predict(
    model: nn.Module,
    task: Task,
    examples: Sequence[Example],
    collate: Collate,
    *,
    batch_size: int,
    accelerator: Accelerator,
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[dict[str, Any]]:
    """One record per example, in the examples' order, on every process. In float32, without dropout.

    Batches are made of examples of similar length; each process takes its share of the batches.
    """
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i]["input_ids"]))
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    mine: list[tuple[int, dict[str, Any]]] = []
    model.eval()
    done = 0
    with torch.inference_mode():
        for indices in batches[accelerator.process_index :: accelerator.num_processes]:
            batch = {k: v.to(accelerator.device) for k, v in collate([examples[i] for i in indices]).items()}
            mine += zip(indices, task.predict(model, batch), strict=True)
            done += len(indices)
            on_batch(done)
    gathered = gather_object(mine) if accelerator.num_processes > 1 else mine
    records = dict(gathered)
    if len(records) != len(examples) or len(gathered) != len(examples):
        raise RuntimeError(f"{len(gathered)} predictions for {len(examples)} examples")
    return [records[i] for i in range(len(examples))]
