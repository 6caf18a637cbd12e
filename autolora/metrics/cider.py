"""CIDEr: ``Cider().compute(predictions=["a cat sat"], references=[["a cat sat"]])``; 10 would be perfect.

Needs a Java runtime for its tokens: NeedsJavaError where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

import evaluate
from pycocoevalcap.cider.cider import Cider as CocoCider

from autolora.metrics.text import TextMetric, coco_score


class Cider(TextMetric, evaluate.Metric):
    """CIDEr-D over PTB tokens, weighted by the references at hand: scores on different sets don't compare."""

    def _compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        return {"cider": coco_score(CocoCider(), predictions, references)}
