"""The squared singular value: how much of the update's energy a component holds."""

from __future__ import annotations

from torch import Tensor

from autolora.allocation.evidence import Evidence, missing


def score(evidence: Evidence) -> dict[str, Tensor]:
    """σ_i² of every singular component.

    Args:
        evidence: With components.

    Raises:
        UserError: There are none.
    """
    if not evidence.components:
        raise missing("spectrum", "a LoRA's singular components")
    return {name: each.sigma.square() for name, each in evidence.components.items()}
