"""METEOR: ``meteor(["a cat sat"], [["the cat sat"]])`` gives ``{"meteor": …}``.

Needs a Java runtime: NeedsJavaError where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

from autolora.metrics.base import Metric, Output
from autolora.metrics.text import check_texts, meteor_process, ptb


def meteor(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """METEOR 1.5 for English over a corpus, on PTB tokens, from 0 to 1."""
    outputs, truths = ptb(predictions, references)
    with meteor_process() as process:

        def ask(line: str) -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(line + "\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        statistics = [
            ask(" ||| ".join(["SCORE", *texts, output])) for output, texts in zip(outputs, truths, strict=True)
        ]
        # It answers with a score for each example, and then with that of the corpus.
        scores = [ask(" ||| ".join(["EVAL", *statistics]))]
        assert process.stdout is not None
        scores += [process.stdout.readline().strip() for _ in statistics]
    return {"meteor": float(scores[-1])}


METRIC = Metric("meteor", meteor, (Output("meteor"),), check=check_texts, takes="texts")
