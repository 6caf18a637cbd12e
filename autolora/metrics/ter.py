"""TER: ``ter(["a cat sat"], [["a cat sat"]])`` gives ``{"ter": 0.0}``."""

from __future__ import annotations

from collections.abc import Sequence

from autolora.metrics.base import Metric, Output
from autolora.metrics.text import by_position, check_texts


def ter(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Translation edit rate, edits per reference word; smaller is better. Case is ignored, punctuation split off."""
    from autolora.metrics.edit_rate import Rate

    return {"ter": Rate(normalized=True).corpus_score(predictions, by_position(references)).score / 100}


METRIC = Metric("ter", ter, (Output("ter", higher_is_better=False, high=None),), check=check_texts, takes="texts")
