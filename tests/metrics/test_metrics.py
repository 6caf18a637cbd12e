"""The metrics against hand-worked values and formulas written out here."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch

import autolora
from autolora.errors import UserError
from autolora.metrics import METRICS
from autolora.metrics.accuracy import Accuracy
from autolora.metrics.compute import compute
from autolora.metrics.f1 import F1
from autolora.metrics.matthews import Matthews
from autolora.metrics.pearson import Pearson
from autolora.metrics.spearman import Spearman
from autolora.registry import load

ALL = ["accuracy", "f1", "matthews", "pearson", "spearman"]  # those of numbers

# Of 10 examples: 3 true positives, 2 false positives, 1 false negative, 4 true negatives.
PREDICTIONS = [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
REFERENCES = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    source = str(Path(autolora.__file__).parents[1])
    settings = {**os.environ, "PYTHONPATH": source, **environment}
    return subprocess.run([sys.executable, "-W", "error", "-c", code], env=settings, capture_output=True, text=True)


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
    assert F1().compute(predictions=[0, 1, 1], references=[0, 0, 1]) == {"f1": pytest.approx(2 / 3)}
    assert F1().compute(predictions=[0, 0], references=[0, 0]) == {"f1": 0.0}
    assert F1().compute(predictions=[1, 2, 2], references=[1, 1, 2]) == {"f1": pytest.approx(2 / 3)}
    # a third label, even if only predicted: F1 of 0, 1, 2 is 1, 2/3, 0
    assert F1().compute(predictions=[0, 1, 2], references=[0, 1, 1]) == {"f1": pytest.approx(5 / 9)}


def test_the_average_of_f1_can_be_set_for_good_or_for_a_call() -> None:
    given = {"predictions": PREDICTIONS, "references": REFERENCES}
    macro = {"f1": pytest.approx((6 / 9 + 8 / 11) / 2)}
    assert F1(average="macro").compute(**given) == macro
    assert F1().compute(**given, average="macro") == macro
    assert F1(average="macro").compute(**given, average="micro") == {"f1": pytest.approx(0.7)}
    assert F1().compute(**given, average="binary", pos_label=0) == {"f1": pytest.approx(8 / 11)}


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
        assert math.isnan(scores["pearson"])
        assert math.isnan(scores["spearman"])
        assert scores["f1"] == (pytest.approx(6 / 7) if constant else 0.0)
        compute(ALL, [constant] * 4, [constant] * 4)
        compute(ALL, [constant], [1])
        compute(["pearson", "spearman"], [1.0, 1.0 + 1e-15, 1.0], [0.0, 1.0, 2.0])


@pytest.mark.parametrize("name", ALL)
def test_unequal_lengths_and_no_examples_are_value_errors_and_leave_the_metric_usable(name: str) -> None:
    metric = load(METRICS, name)()
    with pytest.raises(ValueError, match="3 predictions but 2 references"):
        metric.compute(predictions=[0, 1, 1], references=[0, 1])
    with pytest.raises(ValueError, match="no examples"):
        metric.compute(predictions=[], references=[])
    with pytest.raises(ValueError, match="no examples"):
        metric.compute()
    with pytest.raises(ValueError, match="both predictions and references"):
        metric.compute(predictions=[1])
    assert list(metric.compute(predictions=[0, 1, 1], references=[0, 1, 1]).values()) == [pytest.approx(1.0)]


@pytest.mark.parametrize("name", ["accuracy", "f1", "matthews"])
def test_a_probability_in_place_of_a_label_is_refused_not_rounded(name: str) -> None:
    with pytest.raises(ValueError, match="continuous"):
        compute([name], [0.2, 0.9], [0, 1])


def test_an_unknown_name_is_the_users_error() -> None:
    with pytest.raises(UserError, match="'belu' is not one of: accuracy, bleu"):
        compute(["belu"], [1], [1])


def test_batches_and_single_examples_add_up() -> None:
    metric = Accuracy()
    metric.add_batch(predictions=[1, 0], references=[1, 1])
    metric.add_batch(predictions=[0], references=[0])
    metric.add(prediction=1, reference=1)
    assert metric.compute() == {"accuracy": 0.75}
    assert metric.compute(predictions=[0], references=[1]) == {"accuracy": 0.0}


def test_evaluate_combines_them() -> None:
    of_labels = evaluate.combine([Accuracy(), F1(average="macro"), Matthews()])
    once = of_labels.compute(predictions=PREDICTIONS, references=REFERENCES)
    for start in range(0, 10, 5):
        of_labels.add_batch(PREDICTIONS[start : start + 5], REFERENCES[start : start + 5])
    assert of_labels.compute() == once
    assert list(once) == ["accuracy", "f1", "matthews_correlation"]
    of_numbers = evaluate.combine([Pearson(), Spearman()])
    assert of_numbers.compute(predictions=[1, 2, 3], references=[2, 4, 6]) == {
        "pearson": pytest.approx(1.0),
        "spearman": pytest.approx(1.0),
    }


def test_they_are_metrics_of_evaluate_and_can_still_keep_their_data_in_files(tmp_path: Path) -> None:
    metric = Pearson(keep_in_memory=False, cache_dir=str(tmp_path))
    assert isinstance(metric, evaluate.Metric)
    assert metric.description.startswith("The linear correlation")
    assert metric.compute(predictions=[1, 2, 3], references=[2, 4, 6]) == {"pearson": pytest.approx(1.0)}
    assert list(tmp_path.rglob("pearson"))


def test_all_work_without_network_and_write_no_cache(tmp_path: Path) -> None:
    code = f"""
import socket

def refuse(*_):
    raise AssertionError("network")

socket.socket.connect = refuse
from autolora.metrics.compute import compute
print(sorted(compute({ALL!r}, [0, 1, 1, 0], [0, 1, 0, 0])))
"""
    done = run_python(code, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    assert "matthews_correlation" in done.stdout
    assert done.stderr == ""
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not (tmp_path / "home" / "metrics").exists()


def test_reading_the_names_imports_neither_evaluate_nor_the_scientific_libraries() -> None:
    code = """
import sys
import autolora.metrics
import autolora.metrics.compute
print([name for name in ("evaluate", "datasets", "sklearn", "scipy", "torch") if name in sys.modules])
"""
    done = run_python(code)
    assert done.stdout.strip() == "[]", done.stderr
