"""What the metrics of labels and of numbers share."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any


def floats(values: Sequence[Any]) -> list[float]:
    """Labels or numbers, of lists, arrays or tensors, as they are: nothing is rounded.

    So scikit-learn still sees, and refuses, a probability where a label belongs.

    Raises:
        ValueError: one of them is no number.
    """
    try:
        return [float(value) for value in values]
    except TypeError as error:
        raise ValueError(f"predictions and references must be numbers: {error}") from None


def correlation(test: Callable[..., Any], predictions: Sequence[Any], references: Sequence[Any]) -> float:
    """The statistic of one of scipy's correlation tests; NaN where undefined (a constant side, one example)."""
    if len(references) < 2:
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # that a side is constant, or nearly so
        return float(test(floats(references), floats(predictions)).statistic)
