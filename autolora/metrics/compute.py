"""Scores by name, and what our metrics share.

``compute(["accuracy", "f1"], predictions, references)`` gives ``{"accuracy": 0.75, "f1": 0.8}``. The names are those of
`autolora.metrics.METRICS`. Nothing here imports `evaluate` before a metric is asked for.

A metric of our own is ``class Mine(InMemory, evaluate.Metric)`` with a docstring, a ``_compute(predictions,
references)`` that returns a dict, and a line in `METRICS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from autolora.metrics import METRICS
from autolora.registry import load


class NeedsJavaError(RuntimeError):
    """A metric needs a Java runtime, and there is none."""


def compute(
    names: Sequence[str],
    predictions: Sequence[Any],
    references: Sequence[Any],
    on_missing: Callable[[str], None] | None = None,
) -> dict[str, float | None]:
    """The metrics of that name, as plain floats.

    F1 is that of class 1 where all labels are 0 and 1, and the mean over the classes (macro) otherwise. A correlation
    with a constant series is NaN. Raises ValueError for no examples or unequal lengths.

    on_missing: is told, once, that there is no Java; the metrics that need it are then None (else: NeedsJavaError).
    """
    scores: dict[str, float | None] = {}
    said = False
    for name in names:
        try:
            result = load(METRICS, name)().compute(predictions=predictions, references=references)
        except NeedsJavaError as error:
            if on_missing is None:
                raise
            if not said:
                on_missing(f"{error}; their columns stay empty. Install one (Debian, Ubuntu: apt install default-jre)")
            said, result = True, {name: None}
        scores.update({key: None if value is None else float(value) for key, value in result.items()})
    return scores


class InMemory:
    """Goes before `evaluate.Metric` in a class's bases: no files, numbers in, clear errors.

    `evaluate` makes a folder for every metric and keeps the predictions in it; the folder may be read-only, or shared
    with other processes. Labels are read as numbers without rounding, so that scikit-learn still sees, and refuses, a
    probability where a label belongs.
    """

    def __init__(self, config_name: str | None = None, keep_in_memory: bool = True, **options: Any) -> None:
        super().__init__(config_name, keep_in_memory=keep_in_memory, **options)  # type: ignore[call-arg]

    def _build_data_dir(self) -> Any:
        if self.keep_in_memory:  # type: ignore[attr-defined]
            return ""
        return super()._build_data_dir()  # type: ignore[misc]

    def _info(self) -> Any:
        from evaluate import MetricInfo

        return MetricInfo(
            description=inspect.getdoc(type(self)) or "",
            citation="",
            features=self._features(),
            inputs_description=self.inputs_description,
        )

    inputs_description = "predictions and references: numbers, one of each per example."

    def _features(self) -> Any:
        from datasets import Features, Value

        return Features({"predictions": Value("float64"), "references": Value("float64")})

    def add_batch(self, *, predictions: Any = None, references: Any = None, **others: Any) -> None:
        """Take one more batch of predictions and references."""
        if predictions is None or references is None:
            raise ValueError("a metric needs both predictions and references")
        if len(predictions) != len(references):
            raise ValueError(f"{len(predictions)} predictions but {len(references)} references")
        super().add_batch(predictions=predictions, references=references, **others)  # type: ignore[misc]

    def _finalize(self) -> None:
        if self.keep_in_memory and not len(self):  # type: ignore[attr-defined, arg-type]
            self.writer = None  # the next compute starts afresh
            raise ValueError("no predictions to score: the metric got no examples")
        super()._finalize()  # type: ignore[misc]
