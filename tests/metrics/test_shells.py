"""The metrics as users of `evaluate` meet them."""

from __future__ import annotations

import inspect
import math
from pathlib import Path

import evaluate
import pytest

from autolora.metrics import shells
from autolora.metrics.base import Metric, NeedsJavaError, Output
from autolora.metrics.shells import F1, Accuracy, Bleu, Chrf, Cider, Entities, Matthews, Meteor, Pearson, RougeL, Ter
from autolora.registry import METRICS
from tests.metrics.processes import run_python
from tests.metrics.test_every_metric import EVERY, truth
from tests.metrics.test_numeric import ALL, PREDICTIONS, REFERENCES

SHELLS: dict[str, type[shells.Shell]] = {
    each.metric.name: each
    for each in vars(shells).values()
    if isinstance(each, type) and issubclass(each, shells.Shell) and hasattr(each, "metric")
}


def test_every_metric_has_a_shell_that_says_what_the_metric_is() -> None:
    assert sorted(SHELLS) == sorted(METRICS)
    for name, shell in SHELLS.items():
        made = shell()
        assert isinstance(made, evaluate.Metric)
        assert shell.metric is METRICS.load(name)
        assert made.description
        assert made.description == inspect.getdoc(METRICS.load(name).function)
        assert made.inputs_description.startswith("predictions")


@pytest.mark.usefixtures("one_begun")
@pytest.mark.parametrize("name", EVERY)
def test_a_shell_gives_what_the_function_gives(name: str) -> None:
    references, perfect, worse = truth(name)
    for predictions in (perfect, worse):
        found = SHELLS[name]().compute(predictions=predictions, references=references)
        expected = dict(METRICS.load(name).function(predictions, references))
        assert {column: found[column] for column in expected} == expected
        assert set(found) - set(expected) == ({"entities", "by_type"} if name == "entities" else set())


@pytest.mark.parametrize("name", ALL)
def test_unequal_lengths_and_no_examples_are_value_errors_and_leave_the_metric_usable(name: str) -> None:
    metric = SHELLS[name]()
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
        SHELLS[name]().compute(predictions=[0.2, 0.9], references=[0, 1])


def test_the_average_of_f1_can_be_set_for_good_or_for_a_call() -> None:
    given = {"predictions": PREDICTIONS, "references": REFERENCES}
    macro = {"f1": pytest.approx((6 / 9 + 8 / 11) / 2)}
    assert F1(average="macro").compute(**given) == macro
    assert F1().compute(**given, average="macro") == macro
    assert F1(average="macro").compute(**given, average="micro") == {"f1": pytest.approx(0.7)}
    assert F1().compute(**given, average="binary", pos_label=0) == {"f1": pytest.approx(8 / 11)}


def test_batches_and_single_examples_add_up() -> None:
    metric = Accuracy()
    metric.add_batch(predictions=[1, 0], references=[1, 1])
    metric.add_batch(predictions=[0], references=[0])
    metric.add(prediction=1, reference=1)
    assert metric.compute() == {"accuracy": 0.75}
    assert metric.compute(predictions=[0], references=[1]) == {"accuracy": 0.0}


def test_evaluate_combines_those_of_labels_and_those_of_numbers() -> None:
    of_labels = evaluate.combine([Accuracy(), F1(average="macro"), Matthews()])
    once = of_labels.compute(predictions=PREDICTIONS, references=REFERENCES)
    for start in range(0, 10, 5):
        of_labels.add_batch(PREDICTIONS[start : start + 5], REFERENCES[start : start + 5])
    assert of_labels.compute() == once
    assert list(once) == ["accuracy", "f1", "matthews_correlation"]
    of_numbers = evaluate.combine([Pearson(), shells.Spearman()])
    assert of_numbers.compute(predictions=[1, 2, 3], references=[2, 4, 6]) == {
        "pearson": pytest.approx(1.0),
        "spearman": pytest.approx(1.0),
    }


def test_evaluate_combines_those_of_texts() -> None:
    both = evaluate.combine([Bleu(), Chrf()])
    both.add_batch(predictions=["a cat sat on it"], references=[["a cat sat on it", "no"]])
    assert both.compute() == {"bleu": pytest.approx(1.0), "chrf++": pytest.approx(1.0)}


def test_evaluate_combines_entities_and_their_batches_add_up() -> None:
    both = evaluate.combine([Entities()])
    for predicted, true in (("B-x O", "B-x O"), ("O O", "B-x O")):
        both.add_batch(predictions=[predicted.split()], references=[true.split()])
    assert both.compute()["recall"] == 0.5


def test_entities_have_their_count_and_scores_by_type() -> None:
    found = Entities().compute(predictions=[["B-x", "O"], ["B-y"]], references=[["B-x", "B-x"], ["O"]])
    assert list(found) == ["precision", "recall", "f1", "accuracy", "entities", "by_type"]
    assert found["entities"] == 2
    assert found["by_type"] == {
        "x": {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "entities": 2},
        "y": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "entities": 0},
    }


def test_they_can_still_keep_their_data_in_files(tmp_path: Path) -> None:
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
from autolora.metrics import shells
given = {{"predictions": [0, 1, 1, 0], "references": [0, 1, 0, 0]}}
for name in {[SHELLS[name].__name__ for name in ALL]!r}:
    print(sorted(getattr(shells, name)().compute(**given)))
"""
    done = run_python(code, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    assert "matthews_correlation" in done.stdout
    assert done.stderr == ""
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not (tmp_path / "home" / "metrics").exists()


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ([["a"], []], "example 2: references must be a list of one or more texts"),
        ([["a"], "b"], "example 2: references must be a list of one or more texts, got 'b'"),
        ([["a"], ["b", " "]], "example 2: a reference is empty"),
        ([["a"]], "2 predictions but 1 references"),
    ],
)
def test_wrong_references_are_refused_with_the_batch(references: list[list[str]], message: str) -> None:
    metric = Bleu()
    with pytest.raises(ValueError, match=message):
        metric.add_batch(predictions=["a", "b"], references=references)
    assert len(metric) == 0


def test_sentences_of_unequal_length_are_refused_with_the_batch() -> None:
    with pytest.raises(ValueError, match="sentence 2: 1 predicted tags but 2 reference tags"):
        Entities().add_batch(predictions=[["O"], ["O"]], references=[["O"], ["O", "O"]])


def test_without_java_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from autolora.metrics.text import _ptb

    _ptb.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    for metric in (Meteor(), RougeL(), Cider()):
        with pytest.raises(NeedsJavaError, match="need a Java runtime"):
            metric.compute(predictions=["a cat sat on it"], references=[["a cat sat on it"]])
    assert Ter().compute(predictions=["a cat"], references=[["a cat"]]) == {"ter": 0.0}


def test_a_metric_of_ones_own_can_have_one() -> None:
    class Distance(shells.Shell):
        metric = Metric(
            "distance",
            lambda predictions, references: {"distance": math.dist(predictions, references)},
            (Output("distance", higher_is_better=False, high=None),),
        )

    assert Distance().compute(predictions=[0, 3], references=[4, 0]) == {"distance": 5.0}
