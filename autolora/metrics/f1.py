"""F1: ``f1([0, 1], [1, 1])`` gives ``{"f1": 0.666...}``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from autolora.metrics.base import Classes, Metric, Output, Scoring
from autolora.metrics.numeric import floats


def f1(
    predictions: Sequence[float], references: Sequence[float], average: str = "auto", pos_label: int = 1
) -> dict[str, float]:
    """The harmonic mean of precision and recall; 0 where both are 0.

    Args:
        predictions: n labels.
        references: n labels.
        average: "binary" (the F1 of class `pos_label`), "macro", "micro" or "weighted" as in scikit-learn, or "auto":
            binary where no label but 0 and 1 occurs, in the references or the predictions, else macro.
        pos_label: the class that "binary" is about.
    """
    from sklearn.metrics import f1_score

    found, true = floats(predictions), floats(references)
    if average == "auto":
        average = "binary" if {*found, *true} <= {0, 1} else "macro"
    return {"f1": float(f1_score(true, found, average=average, pos_label=pos_label, zero_division=0))}


def _of_classes(classes: Classes) -> Scoring:
    """The positive class's where the task has two classes, whichever of them a split holds; else macro."""
    return partial(f1, average="binary" if classes.count == 2 else "macro", pos_label=classes.positive)


METRIC = Metric("f1", f1, (Output("f1"),), takes="classes", of_classes=_of_classes)
