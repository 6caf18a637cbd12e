"""CIDEr: ``cider(["a cat sat"], [["a cat sat"]])``; 10 would be perfect.

Needs a Java runtime for its tokens: NeedsJavaError where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

from autolora.metrics.base import Metric, Output
from autolora.metrics.text import check_texts, coco_score


def cider(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """CIDEr-D over PTB tokens, weighted by the references at hand: scores on different sets don't compare."""
    from pycocoevalcap.cider.cider import Cider

    return {"cider": coco_score(Cider(), predictions, references)}


METRIC = Metric("cider", cider, (Output("cider", high=10.0),), check=check_texts, takes="texts")
