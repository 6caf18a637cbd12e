"""ROUGE-L: ``RougeL().compute(predictions=["a cat sat"], references=[["a cat sat"]])`` gives ``{"rouge_l": 1.0}``.

Needs a Java runtime for its tokens: NeedsJavaError where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

import evaluate
from pycocoevalcap.rouge.rouge import Rouge

from autolora.metrics.text import TextMetric, coco_score


class RougeL(TextMetric, evaluate.Metric):
    """The F-score (recall weighted by 1.2) of the longest common subsequence of PTB tokens, the mean over examples."""

    def _compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        return {"rouge_l": coco_score(Rouge(), predictions, references)}
