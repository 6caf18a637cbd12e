"""Relative error: ``relative_error([[0.5]], [([1.0], [0.0])])`` gives ``{"relative_error": 0.25}``.

| symbol | meaning |
|---|---|
| f_i | predicted numbers of example i, a list, or a list of lists |
| y_i | the right ones, of the same shape |
| b_i | what the model said before it learned anything, of the same shape |

Σ_i ‖f_i - y_i‖² / Σ_i ‖b_i - y_i‖²: 0 is perfect, 1 is what nothing learned is worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from autolora.metrics.base import Metric, Output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def relative_error(predictions: Sequence[Any], references: Sequence[Sequence[Any]]) -> dict[str, float]:
    """The squared error in that of the untrained model; NaN where that is 0."""
    check_vectors(predictions, references)
    error = base = 0.0
    for found, (right, before) in zip(predictions, references, strict=True):
        error += float(((_vectors(found) - _vectors(right)) ** 2).sum())
        base += float(((_vectors(before) - _vectors(right)) ** 2).sum())
    return {"relative_error": error / base if base else math.nan}


def check_vectors(predictions: Sequence[Any], references: Sequence[Sequence[Any]]) -> None:
    """Every reference is a pair, and both are of the prediction's shape.

    Raises:
        ValueError: One is not; numbers are missing.
    """
    for i, (found, reference) in enumerate(zip(predictions, references, strict=True), 1):
        if len(reference) != 2:
            raise ValueError(f"example {i}: a reference is the right numbers and the untrained model's, two lists")
        shapes = [_vectors(numbers).shape for numbers in (found, *reference)]
        if len(set(shapes)) > 1:
            raise ValueError(f"example {i}: prediction, right numbers and the untrained model's are of shapes {shapes}")


def _vectors(numbers: Any) -> NDArray[np.float64]:
    import numpy as np

    try:
        return np.asarray(numbers, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"expected lists of numbers, got {numbers!r:.60}") from None


METRIC = Metric(
    "relative_error",
    relative_error,
    (Output("relative_error", higher_is_better=False, high=None),),
    check=check_vectors,
    takes="vectors",
)
