"""Accuracy: ``accuracy([0, 1], [0, 0])`` gives ``{"accuracy": 0.5}``."""

from __future__ import annotations

from collections.abc import Sequence

from autolora.metrics.base import Metric, Output
from autolora.metrics.numeric import floats


def accuracy(predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
    """The share of predictions that equal their reference."""
    from sklearn.metrics import accuracy_score

    return {"accuracy": float(accuracy_score(floats(references), floats(predictions)))}


METRIC = Metric("accuracy", accuracy, (Output("accuracy"),), takes="classes")
