"""A squeeze in a training loop with accelerate: ``squeeze(accelerator, model, batches, optimizer=optimizer)``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedType, send_to_device
from torch import nn

from autolora.allocation.budget import Budget
from autolora.allocation.squeeze import squeeze as squeeze_model
from autolora.errors import UserError
from autolora.integrations.checks import check_optimizer
from autolora.lora.ranks import Ranks


def squeeze(
    accelerator: Accelerator,
    model: nn.Module,
    batches: Iterable[Any],
    budget: Budget | float | Mapping[str, float] = 0.5,
    **more: Any,
) -> Ranks:
    """`autolora.squeeze` of what ``accelerator.prepare`` gave; the loop goes on with the same objects.

    Args:
        accelerator: That prepared them.
        model: The prepared model.
        batches: Of training data; they are moved to the accelerator's device. Not the prepared loader, whose order the
            training's next epoch depends on.
        budget: As of `autolora.squeeze`.
        more: Its other arguments; ``optimizer=`` is the prepared one.

    Returns:
        The ranks.

    Raises:
        UserError: As `autolora.squeeze`; or the training has several processes, or shards.
    """
    kind = accelerator.distributed_type
    if accelerator.num_processes > 1 or kind in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise UserError(
            f"accelerate runs this training as {kind.value} with {accelerator.num_processes} processes, whose wrapper "
            "around the model holds the factors that the squeeze replaces; squeeze in a training of one process"
        )
    inner = accelerator.unwrap_model(model, keep_torch_compile=False)
    if (optimizer := more.get("optimizer")) is not None:
        check_optimizer(inner, optimizer)
    moved = (send_to_device(batch, accelerator.device) for batch in batches)
    return squeeze_model(inner, moved, budget, **more)
