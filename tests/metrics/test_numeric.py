"""Metrics of labels and numbers, against hand-worked values and formulas written out here."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from autolora.metrics.accuracy import accuracy
from autolora.metrics.f1 import f1
from autolora.metrics.matthews import matthews
from autolora.metrics.numeric import floats
from autolora.metrics.pearson import pearson
from autolora.metrics.spearman import spearman
from tests.metrics.values import compute

ALL = ["accuracy", "f1", "matthews", "pearson", "spearman"]  # those of numbers

# Of 10 examples: 3 true positives, 2 false positives, 1 false negative, 4 true negatives.
PREDICTIONS = [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
REFERENCES = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]


def means_of_ranks(values: Sequence[float]) -> list[float]:
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2 for value in values
    ]


def correlation(xs: Sequence[float], ys: Sequence[float]) -> float:
    mean_x, mean_y = math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)
    covariance = math.fsum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return covariance / math.sqrt(math.fsum((x - mean_x) ** 2 for x in xs) * math.fsum((y - mean_y) ** 2 for y in ys))


def f1_of(label: int, predictions: Sequence[int], references: Sequence[int]) -> float:
    hits = sum(p == r == label for p, r in zip(predictions, references, strict=True))
    both = sum(p == label for p in predictions) + sum(r == label for r in references)
    return 2 * hits / both if both else 0.0


@pytest.fixture
def labels() -> tuple[list[int], list[int]]:
    chance = random.Random(3)
    references = [chance.randrange(4) for _ in range(200)]
    return [r if chance.random() < 0.6 else chance.randrange(4) for r in references], references


def test_the_values_are_those_worked_out_by_hand() -> None:
    scores = compute(["accuracy", "f1", "matthews"], PREDICTIONS, REFERENCES)
    assert scores == {
        "accuracy": pytest.approx(7 / 10),
        "f1": pytest.approx(6 / 9),
        "matthews_correlation": pytest.approx((3 * 4 - 2 * 1) / math.sqrt(5 * 4 * 6 * 5)),
    }
    # x less its mean: -1.5, -.5, .5, 1.5; y less its mean: -2, -1, -1, 4; the products sum to 9, the squares to 5, 22.
    # Ranks of y: 1, 2.5, 2.5, 4; with those of x the products sum to 4.5, the squares to 5 and 4.5.
    scores = compute(["pearson", "spearman"], [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 2.0, 7.0])
    assert scores == {
        "pearson": pytest.approx(9 / math.sqrt(5 * 22)),
        "spearman": pytest.approx(4.5 / math.sqrt(5 * 4.5)),
    }


def test_many_classes_agree_with_the_formulas(labels: tuple[list[int], list[int]]) -> None:
    predictions, references = labels
    scores = compute(["accuracy", "f1", "matthews"], predictions, references)
    agreed = sum(p == r for p, r in zip(predictions, references, strict=True))
    assert scores["accuracy"] == pytest.approx(agreed / 200)
    assert scores["f1"] == pytest.approx(sum(f1_of(label, predictions, references) for label in range(4)) / 4)
    predicted, true = [predictions.count(c) for c in range(4)], [references.count(c) for c in range(4)]
    above = agreed * 200 - sum(p * t for p, t in zip(predicted, true, strict=True))
    below = math.sqrt((200**2 - sum(p * p for p in predicted)) * (200**2 - sum(t * t for t in true)))
    assert scores["matthews_correlation"] == pytest.approx(above / below)


def test_correlations_agree_with_the_formulas_ties_included() -> None:
    chance = random.Random(5)
    references = [chance.randrange(6) * 1.0 for _ in range(150)]
    predictions = [round(r + chance.gauss(0, 2), 1) for r in references]
    scores = compute(["pearson", "spearman"], predictions, references)
    assert scores["pearson"] == pytest.approx(correlation(predictions, references))
    assert scores["spearman"] == pytest.approx(correlation(means_of_ranks(predictions), means_of_ranks(references)))


def test_f1_is_that_of_class_1_for_labels_0_and_1_and_else_the_mean_over_the_classes() -> None:
    assert f1([0, 1, 1], [0, 0, 1]) == {"f1": pytest.approx(2 / 3)}
    assert f1([0, 0], [0, 0]) == {"f1": 0.0}
    assert f1([1, 2, 2], [1, 1, 2]) == {"f1": pytest.approx(2 / 3)}
    # a third label, even if only predicted: F1 of 0, 1, 2 is 1, 2/3, 0
    assert f1([0, 1, 2], [0, 1, 1]) == {"f1": pytest.approx(5 / 9)}


def test_the_average_of_f1_can_be_chosen() -> None:
    assert f1(PREDICTIONS, REFERENCES, average="macro") == {"f1": pytest.approx((6 / 9 + 8 / 11) / 2)}
    assert f1(PREDICTIONS, REFERENCES, average="micro") == {"f1": pytest.approx(0.7)}
    assert f1(PREDICTIONS, REFERENCES, average="binary", pos_label=0) == {"f1": pytest.approx(8 / 11)}


@pytest.mark.parametrize("convert", [list, tuple, np.array, torch.tensor])
def test_lists_arrays_and_tensors_give_the_same_plain_floats(convert: type) -> None:
    scores = compute(ALL, convert(PREDICTIONS), convert(REFERENCES))
    assert list(scores) == ["accuracy", "f1", "matthews_correlation", "pearson", "spearman"]
    assert all(type(value) is float for value in scores.values())
    assert scores == compute(ALL, PREDICTIONS, REFERENCES)


@pytest.mark.parametrize("constant", [0, 1])
def test_constant_predictions_give_no_warning_and_no_error(constant: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = compute(ALL, [constant] * 4, [0, 1, 1, 1])
        assert scores["matthews_correlation"] == 0.0
        assert scores["pearson"] is scores["spearman"] is None
        assert scores["f1"] == (pytest.approx(6 / 7) if constant else 0.0)
        compute(ALL, [constant] * 4, [constant] * 4)
        compute(ALL, [constant], [1])
        compute(["pearson", "spearman"], [1.0, 1.0 + 1e-15, 1.0], [0.0, 1.0, 2.0])


@pytest.mark.parametrize("name", ["accuracy", "f1", "matthews"])
def test_a_probability_in_place_of_a_label_is_refused_not_rounded(name: str) -> None:
    with pytest.raises(ValueError, match="continuous"):
        compute([name], [0.2, 0.9], [0, 1])


@pytest.mark.parametrize("odd", [None, [1], 1j])
def test_what_is_no_number_is_a_value_error(odd: object) -> None:
    for name in ALL:
        with pytest.raises(ValueError, match="predictions and references must be numbers"):
            compute([name], [1, odd], [1, 0])
    with pytest.raises(ValueError, match="could not convert string to float: 'cat'"):
        floats(["cat"])


def test_integers_give_the_very_floats_that_the_libraries_give(labels: tuple[list[int], list[int]]) -> None:
    many, chance = labels, random.Random(11)
    for _ in range(30):
        start = chance.randrange(150)
        predictions, references = (side[start : start + chance.randrange(2, 50)] for side in many)
        predictions = predictions[: len(references)]
        references = references[: len(predictions)]
        assert accuracy(predictions, references)["accuracy"] == accuracy_score(references, predictions)
        average = "binary" if {*predictions, *references} <= {0, 1} else "macro"
        assert f1(predictions, references)["f1"] == f1_score(references, predictions, average=average, zero_division=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = matthews_corrcoef(references, predictions)
        assert matthews(predictions, references)["matthews_correlation"] == expected
        for function, test in ((pearson, pearsonr), (spearman, spearmanr)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # Of the same float64 numbers, the references first: the last bit depends on the order.
                expected = test(np.array(references, dtype=float), np.array(predictions, dtype=float)).statistic
            (value,) = function(predictions, references).values()
            assert value == expected or (math.isnan(value) and math.isnan(expected))


def test_an_undefined_prediction_makes_a_correlation_undefined_and_is_no_label() -> None:
    assert math.isnan(pearson([0.1, math.nan, 0.3], [1, 2, 3])["pearson"])
    assert math.isnan(spearman([0.1, math.nan, 0.3], [1, 2, 3])["spearman"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="NaN"):
            accuracy([1, math.nan, 0], [1, 0, 0])
