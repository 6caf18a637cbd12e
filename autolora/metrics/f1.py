"""F1: ``F1().compute(predictions=[0, 1], references=[1, 1])`` gives ``{"f1": 0.666...}``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import evaluate
from sklearn.metrics import f1_score

from autolora.metrics.compute import InMemory


class F1(InMemory, evaluate.Metric):
    """The harmonic mean of precision and recall; 0 where both are 0.

    average: "binary" (the F1 of class `pos_label`), "macro", "micro" or "weighted" as in scikit-learn, or "auto":
    binary where no label but 0 and 1 occurs, in the references or the predictions, else macro. It can be set for good
    (``F1(average="macro")``, which is what `evaluate.combine` needs) or for one call of `compute`.
    """

    def __init__(self, config_name: str | None = None, *, average: str = "auto", **options: Any) -> None:
        super().__init__(config_name, **options)
        self.average = average

    def _compute(
        self,
        predictions: Sequence[float],
        references: Sequence[float],
        average: str | None = None,
        pos_label: int = 1,
    ) -> dict[str, float]:
        average = average or self.average
        if average == "auto":
            average = "binary" if {*predictions, *references} <= {0, 1} else "macro"
        score = f1_score(references, predictions, average=average, pos_label=pos_label, zero_division=0)
        return {"f1": float(score)}
