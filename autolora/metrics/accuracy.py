"""Accuracy: ``Accuracy().compute(predictions=[0, 1], references=[0, 0])`` gives ``{"accuracy": 0.5}``."""

from __future__ import annotations

from collections.abc import Sequence

import evaluate
from sklearn.metrics import accuracy_score

from autolora.metrics.compute import InMemory


class Accuracy(InMemory, evaluate.Metric):
    """The share of predictions that equal their reference."""

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}
