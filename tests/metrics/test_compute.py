"""Scores by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from autolora.errors import UserError
from autolora.metrics.base import NeedsJavaError, Output, Score
from autolora.metrics.compute import headline, score
from tests.metrics.processes import run_python
from tests.metrics.values import compute


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from autolora.metrics.text import _ptb

    _ptb.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))


def test_scores_come_in_the_order_of_the_names_and_of_the_outputs() -> None:
    found = score(["matthews", "accuracy"], [1, 0, 1, 1], [1, 0, 0, 1])
    assert [each.name for each in found] == ["matthews_correlation", "accuracy"]
    assert found[1] == Score("accuracy", 0.75, higher_is_better=True, low=0.0, high=1.0)
    assert found[0].low == -1.0
    tags = [["B-x", "O"]]
    assert [each.name for each in score(["entities"], tags, tags)] == ["precision", "recall", "f1", "accuracy"]
    assert score([], [1], [1]) == ()


def test_compute_gives_the_same_by_column() -> None:
    names, predictions, references = ["f1", "accuracy"], [1, 0, 1, 1], [1, 0, 0, 1]
    found = compute(names, predictions, references)
    assert list(found.items()) == [(each.name, each.value) for each in score(names, predictions, references)]


def test_headline_is_the_metrics() -> None:
    assert headline("ter") == Output("ter", higher_is_better=False, low=0.0, high=None)
    assert headline("entities").name == "f1"


@pytest.mark.parametrize("call", [lambda: score(["belu"], [1], [1]), lambda: headline("belu")])
def test_an_unknown_name_is_the_users_error(call: object) -> None:
    assert callable(call)
    with pytest.raises(
        UserError, match=r"^there is no metric 'belu'; did you mean 'bleu'\?; there is: accuracy, bleu, "
    ):
        call()


def test_without_java_the_columns_stay_empty_and_it_is_said_once(no_java: None) -> None:
    outputs, references = ["a cat sat on it"], [["a cat sat on it"]]
    said: list[str] = []
    scores = score(["bleu", "meteor", "cider", "rouge_l"], outputs, references, on_missing=said.append)
    assert scores[1:] == (
        Score("meteor", None, higher_is_better=True, low=0.0, high=1.0),
        Score("cider", None, higher_is_better=True, low=0.0, high=10.0),
        Score("rouge_l", None, higher_is_better=True, low=0.0, high=1.0),
    )
    assert scores[0].value == pytest.approx(1.0)
    assert len(said) == 1
    assert "their columns stay empty" in said[0]
    scores = compute(["bleu", "meteor", "cider"], outputs, references, on_missing=said.append)
    assert scores == {"bleu": pytest.approx(1.0), "meteor": None, "cider": None}


@pytest.mark.parametrize("name", ["meteor", "cider", "rouge_l"])
def test_without_java_and_nobody_to_tell_it_is_an_error(no_java: None, name: str) -> None:
    with pytest.raises(NeedsJavaError, match="need a Java runtime"):
        score([name], ["a cat"], [["a cat"]])


def test_a_java_that_does_not_run_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS there is a java that only says that there is none."""
    monkeypatch.setattr("autolora.metrics.text.java", lambda: sys.executable)  # which knows none of these options
    said: list[str] = []
    outputs, references = ["a java that is none"], [["there is none"]]
    scores = score(["rouge_l", "meteor", "bleu"], outputs, references, on_missing=said.append)
    assert [each.value for each in scores[:2]] == [None, None]
    assert scores[2].value is not None
    assert len(said) == 1
    assert f"need a Java runtime for their tokenizer, and {sys.executable} does not run it (" in said[0]


def test_a_meteor_that_ends_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autolora.metrics.text.java", lambda: sys.executable)
    monkeypatch.setattr("autolora.metrics.meteor.ptb", lambda outputs, references: (outputs, references))
    with pytest.raises(NeedsJavaError, match=r"METEOR up to 2 GiB of memory, and its process has ended \(code 2\)"):
        score(["meteor"], ["a"] * 9, [["a " * 9000]] * 9)


def test_reading_the_names_imports_neither_evaluate_nor_the_scientific_libraries() -> None:
    code = """
import sys
import autolora.metrics
import autolora.metrics.base
import autolora.metrics.compute
print([name for name in ("evaluate", "datasets", "sklearn", "scipy", "torch") if name in sys.modules])
"""
    done = run_python(code)
    assert done.stdout.strip() == "[]", done.stderr


def test_scoring_imports_neither_evaluate_nor_datasets_and_needs_no_network() -> None:
    code = """
import socket
import sys

def refuse(*_):
    raise AssertionError("network")

socket.socket.connect = refuse
from autolora.metrics.compute import score
from autolora.registry import METRICS
for name in METRICS:
    METRICS.load(name)
score(["accuracy", "f1", "matthews", "pearson", "spearman"], [0, 1, 1, 0], [0, 1, 0, 0])
score(["entities"], [["B-x"]], [["B-x"]])
score(["bleu", "chrf", "nist", "ter"], ["a cat sat on it"], [["a cat sat on it"]])
print([name for name in ("evaluate", "datasets", "seqeval", "torch") if name in sys.modules])
"""
    done = run_python(code)
    assert done.stdout.strip() == "[]", done.stderr
    assert done.stderr == ""
