"""From selection variables to ranks (paper, section 3.3).

    rank_l = #{ j : a_l[j] >= λ }

λ is 1/k for the softmax, 0.5 for the sigmoid, and the layer's mean of a_l where there is no constraint. Selection
variables are computed from the logits in float64, and a component that lies on the threshold up to rounding is kept:
rounding never decides, and all-equal variables keep all k.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

CONSTRAINT_NAMES = ("softmax", "sigmoid", "none")
_ROUNDING = 1e-9  # relative to the largest |a|; float64 softmax errs by about 1e-16, and float32 logits differ by more


def default_threshold(constraint: str, rank: int) -> float | None:
    """The constraint's λ; None: the mean of each layer.

    Args:
        constraint: "softmax", "sigmoid" or "none".
        rank: k.
    """
    return {"softmax": 1 / rank, "sigmoid": 0.5, "none": None}[constraint]


def kept_components(
    selection: Mapping[str, Sequence[float]], constraint: str = "softmax", threshold: float | None = None
) -> dict[str, tuple[int, ...]]:
    """The indices of the components at or above the threshold, ascending.

    Args:
        selection: The selection variables a_l, k floats by name.
        constraint: That they are under: "softmax", "sigmoid" or "none".
        threshold: λ; None for the constraint's own.
    """
    kept = {}
    for name, a in selection.items():
        level = threshold if threshold is not None else default_threshold(constraint, len(a))
        bound = (math.fsum(a) / len(a) if level is None else level) - _ROUNDING * max(map(abs, a))
        kept[name] = tuple(j for j, value in enumerate(a) if value >= bound)
    return kept
