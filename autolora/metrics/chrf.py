"""chrF++: ``Chrf().compute(predictions=["a cat sat"], references=[["a cat sat"]])`` gives ``{"chrf++": 1.0}``."""

from __future__ import annotations

from collections.abc import Sequence

import evaluate
from sacrebleu.metrics import CHRF

from autolora.metrics.text import TextMetric, by_position


class Chrf(TextMetric, evaluate.Metric):
    """The F-score of character n-grams to 6 and word n-grams to 2, from 0 to 1."""

    def _compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        return {"chrf++": CHRF(word_order=2).corpus_score(predictions, by_position(references)).score / 100}
