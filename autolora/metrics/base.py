"""What a metric is: a function, the numbers that it gives, and which way and how far each of them goes.

    def accuracy(predictions, references) -> dict[str, float]: ...

    METRIC = Metric("accuracy", accuracy, (Output("accuracy"),))
    METRIC.scores([0, 1], [0, 0])  # (Score(name="accuracy", value=0.5, higher_is_better=True, low=0.0, high=1.0),)

Nothing here imports a library, so that a metric's direction and range can be read where its maths is not needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from autolora.errors import RunError

# What a metric's predictions and references are: class ids, numbers, a list of tags each, texts (with a list of
# reference texts each), what a model says of the references' tokens (with the number of them, see `metrics.tokens`), or
# lists of numbers (with a pair of them as reference: the right ones, the untrained model's).
Takes = Literal["classes", "numbers", "tags", "texts", "tokens", "vectors"]
Scoring = Callable[[Sequence[Any], Sequence[Any]], Mapping[str, float]]

NO_EXAMPLES = "no predictions to score: the metric got no examples"


class NeedsJavaError(RuntimeError):
    """A metric needs a Java runtime, and there is none, or none that runs."""


@dataclass(frozen=True)
class Output:
    """One of the numbers that a metric gives.

    Args:
        name: the column of the table, "matthews_correlation" or "chrf++" for instance.
        higher_is_better: which of two values is the better one.
        low: the least value there is; None where there is none.
        high: the greatest value there is; None where there is none.
    """

    name: str
    higher_is_better: bool = True
    low: float | None = 0.0
    high: float | None = 1.0

    def score(self, value: float | None) -> Score:
        """The output with a value; None where it could not be computed."""
        return Score(self.name, value, self.higher_is_better, self.low, self.high)


@dataclass(frozen=True)
class Score:
    """One number that a metric gave, with what is needed to compare it with another one.

    Args:
        name: the column of the table.
        value: in the unit of `low` and `high`, so 0.5 and not 50 where they are 0 and 1. None where it is undefined
            (the correlation with a constant; NaN becomes None), or could not be computed (no Java).
        higher_is_better: as in `Output`, and so are `low` and `high`.

    Raises:
        RunError: the value is infinite.
    """

    name: str
    value: float | None
    higher_is_better: bool
    low: float | None
    high: float | None

    def __post_init__(self) -> None:
        if not isinstance(self.value, float) or math.isfinite(self.value):
            return
        if math.isinf(self.value):
            raise RunError(
                f"the score {self.name} is {self.value}: the predictions are beyond all bounds; the training has "
                "diverged, so lower its learning rate, and start a new run"
            )
        object.__setattr__(self, "value", None)


@dataclass(frozen=True)
class Classes:
    """What a metric has to know of a task's classes, since a split need not hold all of them.

    Args:
        count: how many the task has.
        positive: the id of the one that a metric of two classes is about.
    """

    count: int
    positive: int = 1


@dataclass(frozen=True)
class Metric:
    """A function of predictions and references, and what it gives.

    Args:
        name: the recipe's word for it.
        function: takes n predictions and n references, n ≥ 1, and gives a number for each of `outputs`, by name; NaN
            where it is undefined.
        outputs: in the order of the table's columns.
        compared_by: the output that methods are compared by; None: the first.
        check: raises ValueError for predictions or references that `function` has no use for. It is called before
            `function`, and by users' shells for each batch (see `autolora.metrics.shells`); there may be no examples.
        takes: what the predictions and references are; None: whatever a task gives.
        of_classes: the function for a task of certain classes, where it depends on them.
        reference_fault: why a reference, one text, cannot be scored against ("" where it can), so that it is said when
            the data is read.

    Raises:
        ValueError: there are no outputs, two of one name, or none that is `compared_by`.
    """

    name: str
    function: Scoring
    outputs: tuple[Output, ...]
    compared_by: str | None = None
    check: Callable[[Sequence[Any], Sequence[Any]], None] | None = None
    takes: Takes | None = None
    of_classes: Callable[[Classes], Scoring] | None = None
    reference_fault: Callable[[str], str] | None = None

    def __post_init__(self) -> None:
        names = [output.name for output in self.outputs]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"metric {self.name!r}: it needs outputs of different names, got {names}")
        if self.compared_by is not None and self.compared_by not in names:
            raise ValueError(f"metric {self.name!r}: compared_by is {self.compared_by!r}, none of {names}")

    @property
    def headline(self) -> Output:
        """The output that methods are compared by."""
        return next(output for output in self.outputs if self.compared_by in (None, output.name))

    def validate(self, predictions: Sequence[Any], references: Sequence[Any]) -> None:
        """Look at a batch before it is scored.

        Raises:
            ValueError: their lengths differ, or `check` refuses them.
        """
        if len(predictions) != len(references):
            raise ValueError(f"{len(predictions)} predictions but {len(references)} references")
        if self.check is not None:
            self.check(predictions, references)

    def scores(
        self, predictions: Sequence[Any], references: Sequence[Any], classes: Classes | None = None
    ) -> tuple[Score, ...]:
        """The scores of n predictions against their n references, in the order of `outputs`.

        Args:
            predictions: n of what the metric takes.
            references: n of the same.
            classes: the task's; None where it has none, or nobody knows.

        Raises:
            ValueError: there are no examples, or `validate` or the function refuses them.
            NeedsJavaError: the function needs a Java runtime, and there is none, or none that runs.
            RuntimeError: the function gave other numbers than the outputs.
            RunError: it gave an infinity.
        """
        self.validate(predictions, references)
        if not len(predictions):
            raise ValueError(NO_EXAMPLES)
        function = self.function
        if self.of_classes is not None and classes is not None:
            function = self.of_classes(classes)
        values = function(predictions, references)
        names = [output.name for output in self.outputs]
        if set(values) != set(names):
            raise RuntimeError(f"metric {self.name!r} gave {', '.join(values)}; its outputs are {', '.join(names)}")
        return tuple(output.score(float(values[output.name])) for output in self.outputs)
