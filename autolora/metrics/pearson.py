"""Pearson: ``Pearson().compute(predictions=[0.1, 0.9], references=[1, 5])`` gives ``{"pearson": 1.0}``."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import evaluate
from scipy.stats import pearsonr

from autolora.metrics.compute import InMemory


class Pearson(InMemory, evaluate.Metric):
    """The linear correlation coefficient; NaN where it is undefined (a constant side, one example)."""

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        if len(references) < 2:
            return {"pearson": math.nan}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that a side is constant, or nearly so
            return {"pearson": float(pearsonr(references, predictions).statistic)}
