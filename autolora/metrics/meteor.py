"""METEOR: ``meteor(["a cat sat"], [["the cat sat"]])`` gives ``{"meteor": …}``.

Needs a Java runtime: NeedsJavaError where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

from autolora.metrics.base import Metric, Output
from autolora.metrics.text import answers, check_texts, meteor_process, ptb


def meteor(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """METEOR 1.5 for English over a corpus, on PTB tokens, from 0 to 1."""
    outputs, truths = ptb(predictions, references)
    with meteor_process() as process:
        statistics = [
            answers(process, " ||| ".join(["SCORE", *texts, output]))[0]
            for output, texts in zip(outputs, truths, strict=True)
        ]
        # It answers with a score for each example, and then with that of the corpus.
        scores = answers(process, " ||| ".join(["EVAL", *statistics]), len(statistics) + 1)
    return {"meteor": float(scores[-1])}


METRIC = Metric("meteor", meteor, (Output("meteor"),), check=check_texts, takes="texts")
