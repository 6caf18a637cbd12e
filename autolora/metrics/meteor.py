"""METEOR: ``Meteor().compute(predictions=["a cat sat"], references=[["the cat sat"]])`` gives ``{"meteor": …}``.

Needs a Java runtime: NeedsJavaError where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

import evaluate

from autolora.metrics.text import TextMetric, meteor_process, ptb


class Meteor(TextMetric, evaluate.Metric):
    """METEOR 1.5 for English over a corpus, on PTB tokens, from 0 to 1."""

    def _compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
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
