"""The mean loss of a whole split, whatever the batch size or number of processes: ``mean_loss(model, task, …)``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from autolora.errors import RunError
from autolora.evaluation.in_step import in_step
from autolora.tasks.base import Task
from autolora.training.batches import Collate, Example
from autolora.training.compute import Compute


def mean_loss(
    model: nn.Module,
    task: Task,
    examples: Sequence[Example],
    collate: Collate,
    *,
    batch_size: int,
    compute: Compute,
) -> float:
    """The task's loss, averaged over its units. In float32, without dropout.

    Args:
        model: With the task's head, on the device; it is left in evaluation mode.
        task: Whose loss and units it is.
        examples: As the task encodes them.
        collate: Turns examples into tensors on the CPU.
        batch_size: Examples of a pass; the mean does not depend on it.
        compute: The device, and the processes that share the work.

    Raises:
        RunError: It is not finite.
    """
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i]["input_ids"]))
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    model.eval()
    total = torch.zeros((), dtype=torch.float64).to(compute.exact_device)
    with compute.without_gradients():
        for indices, counts in in_step(batches[compute.process :: compute.processes], compute, batches[-1]):
            batch = {k: v.to(compute.device) for k, v in collate([examples[i] for i in indices]).items()}
            total += task.loss(model, batch).to(total.device) * counts
    mean = float(compute.sum(total)) / max(1, task.units(examples))
    if not math.isfinite(mean):
        raise RunError(
            f"the mean loss over {len(examples)} examples is {mean}: the training has diverged; lower its learning "
            "rate, and start a new run"
        )
    return mean
