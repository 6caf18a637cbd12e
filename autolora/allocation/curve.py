"""Ranks for a row of budgets, from the same evidence: the curve of size against the rise of the loss.

for point in curve(evidence, "fisher", costs, [1000, 2000, 4000]):
print(point.parameters, point.predicted_rise, point.kept)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from autolora.allocation.budget import Kept, choose, size
from autolora.allocation.evidence import Evidence
from autolora.registry import SCORES


@dataclass(frozen=True)
class Point:
    """One budget.

    Args:
        parameters: Of what is kept, Σ r_l (n_l + m_l).
        kept: Indices of components by layer.
        predicted_rise: Of the mean loss, by the gates' derivatives; None where there are none.
        measured_rise: Likewise, where it was measured.
    """

    parameters: int
    kept: Kept
    predicted_rise: float | None = None
    measured_rise: float | None = None

    @property
    def ranks(self) -> dict[str, int]:
        """How many components are kept, by layer."""
        return {name: len(each) for name, each in self.kept.items()}


def curve(
    evidence: Evidence,
    score: str,
    costs: Mapping[str, int],
    limits: Sequence[int],
    measure: Callable[[Kept], float] | None = None,
    rearrange: Callable[[Kept, Mapping[str, Tensor], Evidence], Kept] = lambda kept, values, evidence: kept,
) -> Iterator[Point]:
    """What each budget keeps, and what that costs.

    Args:
        evidence: With what the score needs.
        score: A name in `autolora.registry.SCORES`.
        costs: Parameters of one component, n_l + m_l, by layer.
        limits: Parameters in all, one a point.
        measure: Gives the measured rise of the loss.
        rearrange: What a control makes of the chosen components, of the same size; of them, their scores, the evidence.

    Raises:
        UserError: There is no such score, or it lacks something.
    """
    values = SCORES.load(score)(evidence)
    gates = evidence.gates_of(score)
    for limit in limits:
        kept = rearrange(choose(values, costs, limit), values, evidence)
        predicted = gates.rise(kept) if gates else None
        yield Point(size(kept, costs), kept, predicted, measure(kept) if measure else None)
