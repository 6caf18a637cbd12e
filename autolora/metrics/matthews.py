"""Matthews: ``matthews([0, 1], [0, 1])`` gives ``{"matthews_correlation": 1.0}``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from autolora.metrics.base import Metric, Output
from autolora.metrics.numeric import floats


def matthews(predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
    """The Matthews correlation coefficient, of two or more classes; 0 where either side is constant."""
    from sklearn.metrics import matthews_corrcoef

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that only one label occurs
        return {"matthews_correlation": float(matthews_corrcoef(floats(references), floats(predictions)))}


METRIC = Metric("matthews", matthews, (Output("matthews_correlation", low=-1.0),), takes="classes")
