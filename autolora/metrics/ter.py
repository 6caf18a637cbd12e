"""TER: ``Ter().compute(predictions=["a cat sat"], references=[["a cat sat"]])`` gives ``{"ter": 0.0}``."""

from __future__ import annotations

from collections.abc import Sequence

import evaluate
from sacrebleu.metrics import TER

from autolora.metrics.text import TextMetric, by_position


class Ter(TextMetric, evaluate.Metric):
    """Translation edit rate, edits per reference word; smaller is better. Case is ignored, punctuation split off."""

    def _compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        return {"ter": TER(normalized=True).corpus_score(predictions, by_position(references)).score / 100}
