"""BLEU: ``bleu(["a cat sat here"], [["a cat sat here"]])`` gives ``{"bleu": 1.0}``."""

from __future__ import annotations

from collections.abc import Sequence

from autolora.metrics.base import Metric, Output
from autolora.metrics.text import by_position, check_texts


def bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Corpus BLEU of lower-cased 13a tokens, from 0 to 1; the E2E challenge's to the fourth digit."""
    from sacrebleu.metrics.bleu import BLEU

    score = BLEU(lowercase=True, tokenize="13a").corpus_score(predictions, by_position(references)).score
    return {"bleu": score / 100}


METRIC = Metric("bleu", bleu, (Output("bleu"),), check=check_texts, takes="texts")
