"""Matthews: ``Matthews().compute(predictions=[0, 1], references=[0, 1])`` gives ``{"matthews_correlation": 1.0}``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import evaluate
from sklearn.metrics import matthews_corrcoef

from autolora.metrics.compute import InMemory


class Matthews(InMemory, evaluate.Metric):
    """The Matthews correlation coefficient, of two or more classes; 0 where either side is constant."""

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that only one label occurs
            return {"matthews_correlation": float(matthews_corrcoef(references, predictions))}
