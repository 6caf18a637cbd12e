"""The Fisher information of a gate: twice the nats per unit that closing the component alone costs, to second order."""

from __future__ import annotations

from torch import Tensor

from autolora.allocation.evidence import Evidence, missing


def score(evidence: Evidence) -> dict[str, Tensor]:
    """F_i = Σ c_i² over examples / units (`autolora.allocation.gates`).

    Args:
        evidence: With gates.

    Raises:
        UserError: There are none.
    """
    if evidence.gates is None:
        raise missing("fisher", "derivatives to the components' gates")
    return evidence.gates.fisher()
