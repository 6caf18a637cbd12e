"""Pearson: ``pearson([0.1, 0.9], [1, 5])`` gives ``{"pearson": 1.0}``."""

from __future__ import annotations

from collections.abc import Sequence

from autolora.metrics.base import Metric, Output
from autolora.metrics.numeric import correlation


def pearson(predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
    """The linear correlation coefficient; NaN where it is undefined (a constant side, one example)."""
    from scipy.stats import pearsonr

    return {"pearson": correlation(pearsonr, predictions, references)}


METRIC = Metric("pearson", pearson, (Output("pearson", low=-1.0),), takes="numbers")
