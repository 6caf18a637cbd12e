"""Accumulated saliency: what the validation loss would have risen by without a component, step by step of a search."""

from __future__ import annotations

import torch
from torch import Tensor

from autolora.allocation.evidence import Evidence, missing


def score(evidence: Evidence) -> dict[str, Tensor]:
    """S_j = Σ over steps of -a_j ∂L_val/∂a_j at V', of every pair of columns (`bilevel.saliency`).

    Args:
        evidence: With saliencies.

    Raises:
        UserError: There are none.
    """
    if not evidence.saliency:
        raise missing("saliency", "the saliencies that a search accumulates")
    return {name: torch.tensor(s, dtype=torch.float64) for name, s in evidence.saliency.items()}
