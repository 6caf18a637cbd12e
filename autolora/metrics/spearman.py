"""Spearman: ``Spearman().compute(predictions=[0.1, 0.9], references=[1, 5])`` gives ``{"spearman": 1.0}``."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import evaluate
from scipy.stats import spearmanr

from autolora.metrics.compute import InMemory


class Spearman(InMemory, evaluate.Metric):
    """The correlation coefficient of the ranks, ties taking their mean; NaN where undefined (a constant side, one
    example)."""

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        if len(references) < 2:
            return {"spearman": math.nan}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that a side is constant, or nearly so
            return {"spearman": float(spearmanr(references, predictions).statistic)}
