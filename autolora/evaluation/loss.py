"""The mean loss of a whole split, whatever the batch size or number of processes: ``mean_loss(model, task, …)``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import nn

from autolora.tasks.base import Task
from autolora.training.batches import Collate, Example


def mean_loss(
    model: nn.Module,
    task: Task,
    examples: Sequence[Example],
    collate: Collate,
    *,
    batch_size: int,
    accelerator: Accelerator,
) -> float:
    """The task's loss, averaged over its units (`Task.units`). In float32, without dropout."""
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i]["input_ids"]))
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    model.eval()
    total = torch.zeros((), dtype=torch.float64, device=accelerator.device)
    with torch.inference_mode():
        for indices in batches[accelerator.process_index :: accelerator.num_processes]:
            batch = {k: v.to(accelerator.device) for k, v in collate([examples[i] for i in indices]).items()}
            total += task.loss(model, batch)
    if accelerator.num_processes > 1:
        total = accelerator.reduce(total, reduction="sum")
    return float(total) / task.units(examples)
