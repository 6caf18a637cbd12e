"""BLEU: ``Bleu().compute(predictions=["a cat sat here"], references=[["a cat sat here"]])`` gives ``{"bleu": 1.0}``."""

from __future__ import annotations

from collections.abc import Sequence

import evaluate
from sacrebleu.metrics import BLEU

from autolora.metrics.text import TextMetric, by_position


class Bleu(TextMetric, evaluate.Metric):
    """Corpus BLEU of lower-cased 13a tokens, from 0 to 1; the E2E challenge's to the fourth digit."""

    def _compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        score = BLEU(lowercase=True, tokenize="13a").corpus_score(predictions, by_position(references)).score
        return {"bleu": score / 100}
