"""Token accuracy: ``token_accuracy([(-2.5, 3), (-0.1, 1)], [4, 1])`` gives ``{"token_accuracy": 0.8}``."""

from __future__ import annotations

from collections.abc import Sequence

from autolora.metrics.base import Metric, Output
from autolora.metrics.tokens import Told, check_tokens


def token_accuracy(predictions: Sequence[Told], references: Sequence[int]) -> dict[str, float]:
    """The share of reference tokens that the model thinks likeliest, each after the right ones before it."""
    check_tokens(predictions, references)
    return {"token_accuracy": sum(hits for _, hits in predictions) / sum(references)}


METRIC = Metric("token_accuracy", token_accuracy, (Output("token_accuracy"),), check=check_tokens, takes="tokens")
