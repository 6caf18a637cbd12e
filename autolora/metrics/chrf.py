"""chrF++: ``chrf(["a cat sat"], [["a cat sat"]])`` gives ``{"chrf++": 1.0}``."""

from __future__ import annotations

from collections.abc import Sequence

from autolora.metrics.base import Metric, Output
from autolora.metrics.text import by_position, check_texts


def chrf(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """The F-score of character n-grams to 6 and word n-grams to 2, from 0 to 1."""
    from sacrebleu.metrics.chrf import CHRF

    return {"chrf++": CHRF(word_order=2).corpus_score(predictions, by_position(references)).score / 100}


METRIC = Metric("chrf", chrf, (Output("chrf++"),), check=check_texts, takes="texts")
