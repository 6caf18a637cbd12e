"""The selection variables of an AutoLoRA search (paper, section 3.3), which are comparable within a layer only."""

from __future__ import annotations

import torch
from torch import Tensor

from autolora.allocation.evidence import Evidence, missing


def score(evidence: Evidence) -> dict[str, Tensor]:
    """a_j of every pair of columns.

    Args:
        evidence: With selection variables.

    Raises:
        UserError: There are none.
    """
    if not evidence.selection:
        raise missing("selection", "the selection variables of a search")
    return {name: torch.tensor(a, dtype=torch.float64) for name, a in evidence.selection.items()}
