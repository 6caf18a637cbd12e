"""Spearman: ``spearman([0.1, 0.9], [1, 5])`` gives ``{"spearman": 1.0}``."""

from __future__ import annotations

from collections.abc import Sequence

from autolora.metrics.base import Metric, Output
from autolora.metrics.numeric import correlation


def spearman(predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
    """The correlation coefficient of the ranks, ties taking their mean.

    NaN where it is undefined (a constant side, one example).
    """
    from scipy.stats import spearmanr

    return {"spearman": correlation(spearmanr, predictions, references)}


METRIC = Metric("spearman", spearman, (Output("spearman", low=-1.0),), takes="numbers")
