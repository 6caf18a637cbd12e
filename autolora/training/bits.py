"""bitsandbytes' AdamW: moments in 8 bits, or in pages that move to the host's memory when the GPU's is full.

    optimizer = bits_optimizer("paged_adamw_8bit", [{"params": parameters}], lr=1e-4, weight_decay=0.0)

Only what uses it imports bitsandbytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from autolora.errors import UserError

CLASSES = {"adamw_8bit": "AdamW8bit", "paged_adamw": "PagedAdamW", "paged_adamw_8bit": "PagedAdamW8bit"}
STEP = "step"  # which bitsandbytes counts as a whole number


def optimizer_fault(name: str, device: torch.device) -> str | None:
    """Why an optimiser cannot be used here; None where it can.

    Args:
        name: As a recipe has it.
        device: Of the parameters.
    """
    if name not in CLASSES:
        return None
    if find_spec("bitsandbytes") is None:
        return f"{name} is bitsandbytes', which is not installed; install it with: pip install 'autolora[quantised]'"
    if name.startswith("paged") and device.type != "cuda":
        return f"{name} pages moments out of a CUDA device's memory, and this runs on {device.type}; write adamw_8bit"
    return None


def bits_optimizer(
    name: str, groups: Sequence[dict[str, Any]], *, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """One of `CLASSES`.

    Args:
        name: Its name.
        groups: Of parameters in float32, as torch's optimisers take them.
        lr: Learning rate.
        weight_decay: Decoupled.

    Raises:
        UserError: It cannot be used here.
    """
    if fault := optimizer_fault(name, groups[0]["params"][0].device):
        raise UserError(f"weights.optimizer: {fault}")
    import bitsandbytes

    made: torch.optim.Optimizer = getattr(bitsandbytes.optim, CLASSES[name])(
        list(groups), lr=lr, weight_decay=weight_decay
    )
    return made


def load_state(optimizer: Any, parameter: Tensor, state: Mapping[str, Tensor]) -> None:
    """Put a parameter's state back into the buffers, paged or not, that bitsandbytes makes for it.

    Args:
        optimizer: From `bits_optimizer`.
        parameter: One of its.
        state: Tensors by name, as the optimiser had them; the step is one, too.
    """
    groups = optimizer.param_groups
    place = ((g, i) for g, group in enumerate(groups) for i, each in enumerate(group["params"]) if each is parameter)
    number, index = next(place)
    optimizer.init_state(groups[number], parameter, number, index)
    own = optimizer.state[parameter]
    for key, value in state.items():
        if key == STEP:
            own[key] = int(value)
        else:
            own[key].copy_(value)
