"""Evaluation splits without labels are predicted and not scored; labels in some rows only are refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from autolora.evaluation.external import score_file
from autolora.experiment.preflight import load_recipe
from tests.methods.support import write_generation_laboratory
from tests.own_data import Content, context, read, refusal, write

TRAIN = [{"text": "the a", "label": "x"}, {"text": "the b", "label": "y"}]


def unlabelled(made: Path, split: str = "test") -> bool:
    prepared = context(made)
    examples = prepared.examples(split)
    return not prepared.splits.reports[split].labelled and not any("label" in example for example in examples)


def files(test: Content, train: Content = TRAIN) -> Mapping[str, Content]:
    return {"train.jsonl": train, "validation.jsonl": TRAIN, "test.jsonl": test}


def own(tmp_path: Path, laboratory: Path, test: Content, train: Content = TRAIN, **data: Any) -> Path:
    data = {"splits": {"eval": ["validation", "test"]}, **data}
    return write(tmp_path, laboratory, files(test, train), **data)


@pytest.mark.parametrize("label", [{}, {"label": None}, {"label": ""}, {"label": -1}, {"label": -1.0}, {"label": "-1"}])
def test_no_row_with_a_label_is_a_split_without_labels(
    tmp_path: Path, laboratory: Path, label: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    made = own(tmp_path, laboratory, [{"text": "the c", **label}, {"text": "the d", **label}])
    assert unlabelled(made)
    assert read(made)["test"] == {"text": ["the c", "the d"]}
    assert "split 'test' has no labels ('label'): it is predicted, not scored" in capsys.readouterr().err
    assert not unlabelled(made, "validation")


def test_a_column_of_nearly_the_labels_name_is_no_lack_of_labels(tmp_path: Path, laboratory: Path) -> None:
    made = own(tmp_path, laboratory, [{"text": "the c", "Label": "x"}])
    assert "there is no column 'label' in test.jsonl" in (said := refusal(made)) or "'label'" in said
    assert "did you mean 'Label'?" in said


def test_the_answer_is_no_input(tmp_path: Path, laboratory: Path) -> None:
    for columns in (["text", "label"], ["label"]):
        said = refusal(own(tmp_path, laboratory, TRAIN, columns=columns))
        assert "data.label: 'label' is among the columns, too: the model would be given the answer" in said
    assert "data.columns: 'text' is named twice" in refusal(own(tmp_path, laboratory, TRAIN, columns=["text", "text"]))


def test_labels_far_down_are_labels(tmp_path: Path, laboratory: Path) -> None:
    rows = [*[{"text": "the c"}] * 110, {"text": "the d", "label": "x"}]
    assert "test.jsonl:1: 'label' is missing" in refusal(own(tmp_path, laboratory, rows))


@pytest.mark.parametrize("missing", ["refuse", "drop"])
def test_rows_without_a_label_among_others_are_refused_by_line_or_dropped(
    tmp_path: Path, laboratory: Path, missing: str
) -> None:
    made = own(tmp_path, laboratory, [{"text": "the c"}, {"text": "the d", "label": "x"}], missing=missing)
    if missing == "refuse":
        assert "test.jsonl:1: 'label' is missing" in refusal(made)
    else:
        assert read(made)["test"] == {"text": ["the d"], "label": ["x"]}


def test_minus_one_among_labels_is_refused_by_line(tmp_path: Path, laboratory: Path) -> None:
    test = [{"text": "the c", "label": "x"}, {"text": "the d", "label": -1}]
    assert "test.jsonl:2: the label '-1' is none of the 2 labels: x, y" in refusal(own(tmp_path, laboratory, test))


@pytest.mark.parametrize("labels", [None, ["-1", "1"]])
def test_minus_one_is_a_name_where_the_training_split_or_the_recipe_has_it(
    tmp_path: Path, laboratory: Path, labels: list[str] | None
) -> None:
    train = [{"text": "the a", "label": -1}, {"text": "the b", "label": 1}]
    made = write(
        tmp_path,
        laboratory,
        {"train.jsonl": train, "validation.jsonl": [{"text": "the c", "label": -1}]},
        **({"labels": labels} if labels else {}),
    )
    assert [example["label"] for example in context(made).examples("validation")] == [0]


def test_the_training_split_must_have_labels(tmp_path: Path, laboratory: Path) -> None:
    assert "train.jsonl:1: 'label' is missing" in refusal(
        own(tmp_path, laboratory, TRAIN, [{"text": "the a", "label": None}, {"text": "the b", "label": None}])
    )
    assert "data.label: no column 'label'" in refusal(own(tmp_path, laboratory, TRAIN, [{"text": "the a"}]))


def test_tags(tmp_path: Path, laboratory: Path) -> None:
    rows = [{"text": ["the", "cat"], "label": ["O", "B-x"]}]
    for label in ({}, {"label": None}, {"label": []}, {"label": [-1, -1]}):
        made = write(
            tmp_path, laboratory, {"train.jsonl": rows, "validation.jsonl": [{"text": ["the"], **label}]}, "tagging"
        )
        prepared = context(made)
        (example,) = prepared.examples("validation")
        assert prepared.task.reference_record(example) == {"tokens": ["the"]}
        batch = prepared.task.collate([example], prepared.tokenizer)
        assert set(batch["labels"].flatten().tolist()) == {-100}


@pytest.mark.parametrize("label", [{}, {"label": None}, {"label": -1}, {"label": -1.0}])
def test_numbers(tmp_path: Path, laboratory: Path, label: dict[str, Any]) -> None:
    train = [{"text": "the a", "label": 0.5}, {"text": "the b", "label": 5}]
    validation = [{"text": "the c", **label}]
    made = write(tmp_path, laboratory, {"train.jsonl": train, "validation.jsonl": validation}, "regression")
    assert unlabelled(made, "validation")


def test_a_number_of_minus_one_is_one_where_the_training_split_has_it(tmp_path: Path, laboratory: Path) -> None:
    train = [{"text": "the a", "label": -1}, {"text": "the b", "label": 5}]
    validation = [{"text": "the c", "label": -1}]
    made = write(tmp_path, laboratory, {"train.jsonl": train, "validation.jsonl": validation}, "regression")
    assert [example["label"] for example in context(made).examples("validation")] == [-1.0]


@pytest.mark.parametrize("label", [{}, {"label": None}, {"label": ""}, {"label": []}])
def test_references(tmp_path: Path, label: dict[str, Any]) -> None:
    laboratory = write_generation_laboratory(tmp_path / "laboratory", "gpt2")
    train = [{"text": "the a", "label": "one"}, {"text": "the b", "label": ["two", "three"]}]
    validation = [{"text": "the c", **label}]
    made = write(tmp_path, laboratory, {"train.jsonl": train, "validation.jsonl": validation}, "generation")
    prepared = context(made)
    (example,) = prepared.task.grouped(prepared.splits["validation"])
    assert prepared.task.reference_record(example) == {"input": "the c"}
    outputs = tmp_path / "outputs.txt"
    outputs.write_text("an output\n")
    with pytest.raises(Exception, match=r"split 'validation' has no references \('label'\) to score the outputs"):
        score_file(load_recipe(made), outputs)
