"""What a score may look at: `Evidence`; a score is a function of it, registered in `autolora.registry.SCORES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from autolora.allocation.components import Components
from autolora.allocation.gates import Gates
from autolora.errors import UserError
from autolora.recipe.stages import OF_PAIRS


@dataclass(frozen=True)
class Evidence:
    """What is known of a trained or searched model's components; what was not measured is None or empty.

    Args:
        components: The singular components of every layer.
        gates: Derivatives of the log-likelihood to their gates.
        selection: The selection variables a, k floats by layer: of pairs of columns, not of singular components.
        saliency: Σ over the search's steps of -a_j ∂L_val/∂a_j at V', likewise.
        pairs: Those pairs of columns; empty where there are no selection variables.
    """

    components: Mapping[str, Components] = field(default_factory=dict)
    gates: Gates | None = None
    selection: Mapping[str, Sequence[float]] = field(default_factory=dict)
    saliency: Mapping[str, Sequence[float]] = field(default_factory=dict)
    pairs: Mapping[str, Components] = field(default_factory=dict)

    def of(self, score: str) -> Mapping[str, Components]:
        """What a score values: pairs of columns, or singular components.

        Args:
            score: A name in `autolora.registry.SCORES`.
        """
        return self.pairs if score in OF_PAIRS else self.components

    def gates_of(self, score: str) -> Gates | None:
        """The derivatives to the gates of what a score values, where they were measured.

        Args:
            score: A name in `autolora.registry.SCORES`.
        """
        return None if score in OF_PAIRS else self.gates


Score = Callable[[Evidence], dict[str, Tensor]]
"""What each component of each layer is worth, (components,) float64 by layer; what it costs is divided by later."""


def missing(score: str, what: str) -> UserError:
    """The error of a score that lacks what it is computed from."""
    return UserError(f"the score {score!r} needs {what}, which was not measured here; choose another score")
