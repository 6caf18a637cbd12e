"""What a metric is, with functions made for the tests."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from autolora.errors import RunError
from autolora.metrics.base import Metric, NeedsJavaError, Output, Score


def shares(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    wrong = sum(p != r for p, r in zip(predictions, references, strict=True)) / len(references)
    return {"right": 1 - wrong, "wrong": wrong}


WRONG = Output("wrong", higher_is_better=False)
SHARES = Metric("shares", shares, (WRONG, Output("right", high=None)))


def giving(values: Mapping[str, float], *outputs: str) -> Metric:
    return Metric("given", lambda predictions, references: values, tuple(map(Output, outputs)))


def test_scores_have_the_outputs_order_direction_and_range_whatever_the_functions_order() -> None:
    assert SHARES.scores(["a", "b", "c", "d"], ["a", "b", "c", "x"]) == (
        Score("wrong", 0.25, higher_is_better=False, low=0.0, high=1.0),
        Score("right", 0.75, higher_is_better=True, low=0.0, high=None),
    )


def test_an_output_is_a_share_unless_it_says_otherwise() -> None:
    assert Output("x").score(0.5) == Score("x", 0.5, higher_is_better=True, low=0.0, high=1.0)
    assert Output("x", low=-1.0).score(None) == Score("x", None, higher_is_better=True, low=-1.0, high=1.0)


def test_the_headline_is_the_first_output_unless_another_is_named() -> None:
    assert SHARES.headline is WRONG
    assert dataclasses.replace(SHARES, compared_by="right").headline == Output("right", high=None)


def test_values_become_plain_floats_and_what_is_undefined_none() -> None:
    import numpy as np

    one, other = giving({"a": np.float32(0.5), "b": math.nan}, "a", "b").scores([1], [1])
    assert type(one.value) is float
    assert one.value == 0.5
    assert other.value is None
    with pytest.raises(RunError, match=r"the score a is inf: the predictions are beyond all bounds"):
        giving({"a": math.inf}, "a").scores([1], [1])


def test_unequal_lengths_and_no_examples_are_refused_before_the_function_is_called() -> None:
    def never(predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        raise AssertionError("called")

    metric = Metric("never", never, (Output("never"),))
    with pytest.raises(ValueError, match=r"^3 predictions but 2 references$"):
        metric.scores([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match=r"^no predictions to score: the metric got no examples$"):
        metric.scores([], [])


def test_a_check_is_asked_before_the_function_and_after_the_lengths() -> None:
    def odd(predictions: Sequence[int], references: Sequence[int]) -> None:
        if any(value % 2 == 0 for value in predictions):
            raise ValueError("odd ones only")

    metric = dataclasses.replace(giving({"a": 1.0}, "a"), check=odd)
    assert metric.scores([1], [2])[0].value == 1.0
    with pytest.raises(ValueError, match="odd ones only"):
        metric.scores([2], [2])
    with pytest.raises(ValueError, match="2 predictions but 1 references"):
        metric.scores([2, 2], [2])
    metric.validate([], [])  # an empty batch is nothing wrong


@pytest.mark.parametrize("values", [{"a": 1.0}, {"a": 1.0, "c": 1.0}, {"a": 1.0, "b": 1.0, "c": 1.0}, {}])
def test_a_function_that_gives_other_numbers_than_the_outputs_is_a_fault(values: dict[str, float]) -> None:
    with pytest.raises(RuntimeError, match=f"metric 'given' gave {', '.join(values)}; its outputs are a, b"):
        giving(values, "a", "b").scores([1], [1])


@pytest.mark.parametrize(
    ("outputs", "compared_by", "message"),
    [
        ((), None, r"metric 'm': it needs outputs of different names, got \[\]"),
        ((Output("a"), Output("a")), None, r"metric 'm': it needs outputs of different names, got \['a', 'a'\]"),
        ((Output("a"),), "b", r"metric 'm': compared_by is 'b', none of \['a'\]"),
    ],
)
def test_a_metric_without_a_headline_cannot_be_made(
    outputs: tuple[Output, ...], compared_by: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Metric("m", shares, outputs, compared_by)


def test_a_missing_java_is_not_hidden() -> None:
    def lacking(predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        raise NeedsJavaError("none")

    with pytest.raises(NeedsJavaError):
        Metric("lacking", lacking, (Output("lacking"),)).scores([1], [1])
