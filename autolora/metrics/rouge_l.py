"""ROUGE-L: ``rouge_l(["a cat sat"], [["a cat sat"]])`` gives ``{"rouge_l": 1.0}``.

Needs a Java runtime for its tokens: NeedsJavaError where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

from autolora.metrics.base import Metric, Output
from autolora.metrics.text import check_texts, coco_score


def rouge_l(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """The F-score (recall weighted by 1.2) of the longest common subsequence of PTB tokens, the mean over examples."""
    from pycocoevalcap.rouge.rouge import Rouge

    return {"rouge_l": coco_score(Rouge(), predictions, references)}


METRIC = Metric("rouge_l", rouge_l, (Output("rouge_l"),), check=check_texts, takes="texts")
