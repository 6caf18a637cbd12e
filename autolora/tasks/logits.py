"""What losses and predictions of every task family make of logits and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def full_precision(logits: Tensor) -> Tensor:
    """Logits of a half-precision pass as float32, in which losses and predictions are computed; others as they are.

    Args:
        logits: Of any shape.
    """
    import torch

    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
