"""Labels and tags as names, through a recipe over files: every split is mapped by name, whatever types files give."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from autolora.data.grammar import LABELS
from tests.own_data import classes, context, read, refusal, text_of, write

Write = Callable[..., Path]


@pytest.fixture
def own(tmp_path: Path, laboratory: Path) -> Write:
    """Writes the two splits' files by suffix, and the recipe for them."""

    def write_them(suffixes: str, train: Any, validation: Any, **data: Any) -> Path:
        first, _, second = suffixes.partition("+")
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        files = {f"train.{first}": train, f"validation.{second or first}": validation}
        return write(tmp_path, laboratory, files, **data)

    return write_them


def rows(*labels: Any) -> list[dict[str, Any]]:
    return [{"text": f"the {i}", "label": label} for i, label in enumerate(labels)]


def table(*labels: Any) -> str:
    return "text,label\n" + "".join(f"the {i},{label}\n" for i, label in enumerate(labels))


def packed(folder: Path, labels: Sequence[Any], **features: Any) -> bytes:
    """A Parquet file; with features as the library `datasets` writes it."""
    columns = {"text": [f"the {i}" for i in range(len(labels))], "label": labels}
    path = folder / "packed.parquet"
    if features:
        kinds = datasets.Features({"text": datasets.Value("string"), **features})
        datasets.Dataset.from_dict(columns, features=kinds).to_parquet(path)
    else:
        parquet.write_table(pa.table(columns), path)
    return path.read_bytes()


def test_true_and_false_of_csv_are_the_recipes_names(own: Write) -> None:
    made = own("csv", table("True", "False", "True"), table("False", "True"), labels=["True", "False"])
    assert classes(made) == (["True", "False"], {"train": ["True", "False", "True"], "validation": ["False", "True"]})


@pytest.mark.parametrize("labels", [None, ["anger", "joy", "love"], ["joy", "love", "anger"]])
def test_class_numbers_go_by_the_names_of_their_own_split(own: Write, tmp_path: Path, labels: Any) -> None:
    train = packed(tmp_path, [0, 1, 2, 1], label=datasets.ClassLabel(names=["anger", "joy", "love"]))
    validation = packed(tmp_path, [0, 1, 0], label=datasets.ClassLabel(names=["joy", "anger"]))
    made = own("parquet", train, validation, **({"labels": labels} if labels else {}))
    names, found = classes(made)
    assert names == (labels or ["anger", "joy", "love"])
    assert found == {"train": ["anger", "joy", "love", "joy"], "validation": ["joy", "anger", "joy"]}
    assert context(made).splits.reports["validation"].names == ["joy", "anger"]


def test_a_class_number_without_a_name_is_refused_by_row(own: Write, tmp_path: Path) -> None:
    table_ = pa.table({"text": ["a", "b"], "label": [0, 5]})
    feature = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["x", "y"])})
    parquet.write_table(table_.replace_schema_metadata(feature.arrow_schema.metadata), tmp_path / "t.parquet")
    made = own("parquet+csv", (tmp_path / "t.parquet").read_bytes(), table("x"))
    assert "train.parquet, row 2: the class number 5 is none of the 2 classes of the column: x, y" in refusal(made)


@pytest.mark.parametrize("labels", [None, ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]])
def test_tag_numbers_go_by_the_names_of_their_own_split(
    tmp_path: Path, laboratory: Path, labels: list[str] | None
) -> None:
    orders = {"train": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"], "validation": ["B-LOC", "O", "B-PER"]}
    files = {}
    for split, names in orders.items():
        tags = [[names.index("B-PER"), names.index("O")], [names.index("B-LOC")]]
        features = datasets.Features({
            "text": datasets.List(datasets.Value("string")), "label": datasets.List(datasets.ClassLabel(names=names))
        })  # fmt: skip
        made = datasets.Dataset.from_dict({"text": [["a", "b"], ["c"]], "label": tags}, features=features)
        made.to_parquet(tmp_path / "x.parquet")
        files[f"{split}.parquet"] = (tmp_path / "x.parquet").read_bytes()
    recipe = write(tmp_path, laboratory, files, "tagging", **({"labels": labels} if labels else {}))
    assert context(recipe).task.names == (labels or orders["train"])
    for split in orders:
        assert read(recipe)[split]["label"] == [["B-PER", "O"], ["B-LOC"]]


def test_tag_numbers_without_names_are_ids_of_the_recipes_tags(own: Write) -> None:
    sentences = [{"text": ["a", "b"], "label": [1, 0]}]
    labels = ["O", "B-PER", "I-PER"]
    task = context(own("jsonl", sentences, sentences, task="tagging", labels=labels)).task
    assert task.names == labels
    assert [task._tag(tag, "here") for tag in ("1", "0")] == ["B-PER", "O"]
    assert "row 1" not in (message := refusal(own("jsonl", sentences, sentences, task="tagging")))
    assert "train.jsonl:1, word 1 ('a'): the tag is a number, 1; name the tags in data.labels" in message


def test_a_tag_that_training_has_not_is_refused_by_name(own: Write) -> None:
    train, other = [{"text": ["a", "b"], "label": ["O", "B-x"]}], [{"text": ["a"], "label": ["B-a"]}]
    assert refusal(own("jsonl", train, other, task="tagging")).endswith(
        "validation.jsonl:1: the tag 'B-a' is none of the 2 tags: O, B-x"
    )


def test_a_label_that_training_has_not_is_refused_by_name(own: Write) -> None:
    assert refusal(own("csv", table("a", "b"), table("a", "c", "c"))).endswith(
        "data/validation.csv:3: the label 'c' is none of the 2 labels: a, b"
    )


def test_numbers_as_texts_in_one_split_and_as_numbers_in_another_are_the_same_names(own: Write) -> None:
    names = [str(i) for i in range(11)]
    made = own("jsonl", rows(*names), rows(10, 2, 9))
    assert classes(made) == (names, {"train": names, "validation": ["10", "2", "9"]})


def test_names_that_are_numbers_are_names(own: Write) -> None:
    stars = [str(i) for i in range(1, 6)]
    assert classes(own("jsonl", rows(1, 2, 3, 4, 5), rows(5, 1), labels=stars))[1]["validation"] == ["5", "1"]
    assert classes(own("csv", table(0, 4, 4), table(4, 0), labels=["0", "4"]))[1]["validation"] == ["4", "0"]
    assert classes(own("jsonl", rows(5, 1, 2, 3, 4), rows(5, 1)))[0] == stars
    assert classes(own("csv", table("01", "02", "01"), table("02")))[0] == ["01", "02"]
    assert "train.csv:2: the label '1' is none of the 2 labels: 01, 02" in refusal(
        own("csv", table("1", "02"), table("02"), labels=["01", "02"])
    )


def test_where_no_name_is_a_number_a_number_is_an_id(own: Write) -> None:
    made = own("jsonl+csv", rows(0, 1, 1), table(1, "bad"), labels=["bad", "good"])
    assert classes(made)[1] == {"train": ["bad", "good", "good"], "validation": ["good", "bad"]}
    assert "train.jsonl:3: the label '2' is none of the 2 labels: bad, good" in refusal(
        own("jsonl+csv", rows(0, 1, 2), table(1), labels=["bad", "good"])
    )


def test_large_numbers_are_names(own: Write) -> None:
    assert classes(own("jsonl", rows(1, 2_000_000_000), rows(1)))[0] == ["1", "2000000000"]


@pytest.mark.parametrize(("labels", "names"), [
    ([1.0, 0.0], ["0", "1"]), ([-1, 1], ["-1", "1"]), ([True, False], ["false", "true"]),
    ([10, 9, -2], ["-2", "9", "10"]),
    ([0.5, 2.5], ["0.5", "2.5"]),
])  # fmt: skip
def test_numbers_and_booleans_are_names_like_any(
    own: Write, tmp_path: Path, labels: list[Any], names: list[str]
) -> None:
    assert classes(own("jsonl", rows(*labels), rows(labels[0])))[0] == names
    assert classes(own("parquet", packed(tmp_path, labels), packed(tmp_path, labels[:1])))[0] == names


def test_one_class_is_refused(own: Write) -> None:
    assert "column 'label': all labels of the training split are 'x'; there must be two classes" in refusal(
        own("csv", table("x", "x"), table("x"))
    )


def test_a_name_twice_is_refused(own: Write, tmp_path: Path) -> None:
    assert "own.yaml:8: data.labels: must have each name once, got 'a' twice" in refusal(
        own("csv", table("a", "b"), table("a"), labels=["a", "b", "a"])
    )


def test_a_list_of_labels_is_refused_by_row(own: Write, tmp_path: Path) -> None:
    message = "'label' must be one label a row, got the list ['a', 'b']"
    assert f"train.jsonl:2: {message}" in refusal(own("jsonl", rows("a", ["a", "b"]), rows("a")))
    made = own("parquet+jsonl", packed(tmp_path, [["a", "b"], ["a"]]), rows("a"))
    assert f"train.parquet, row 1: {message}" in refusal(made)


@pytest.mark.parametrize(
    "twins",
    [("pos", "pos "), ("Positive", "positive"), ("caf\u00e9", "cafe\u0301"), ("1", "1.0"), ("1", "01"), (".5", "5e-1")],
)
def test_nearly_the_same_name_is_said_and_stays_apart(
    own: Write, capsys: pytest.CaptureFixture[str], twins: tuple[str, str]
) -> None:
    made = own("jsonl", rows(*twins, "neg"), rows("neg"))
    assert set(classes(made)[0]) == {*twins, "neg"}
    first, second = sorted(twins)
    said = f"the labels {first!r} and {second!r} are two classes, and nearly the same name"
    assert said in capsys.readouterr().err


def test_names_are_those_of_the_whole_training_split(own: Write) -> None:
    made = own("jsonl", rows(*["a"] * 50, "b", "rare"), rows("rare", "b"), limits={"train": 5})
    names, found = classes(made)
    assert names == ["a", "b", "rare"]
    assert len(found["train"]) == 5
    assert found["validation"] == ["rare", "b"]


def test_a_regression_label_that_is_no_number_is_refused_by_line(own: Write) -> None:
    made = own("csv", table(1, 2.5), table("1e1", "high"), task="regression")
    assert "validation.csv:3: label 'high' is not a number" in refusal(made)
    made = own("csv", table(1, 2.5), table("1_0", "2"), task="regression")
    assert "validation.csv:2: label '1_0' is not a number" in refusal(made)
    made = own("csv", table(1, 2.5), table("1e1", "-3"), task="regression")
    assert [example["label"] for example in context(made).examples("validation")] == [10.0, -3.0]


def test_the_reports_count_rows_and_labels(own: Write) -> None:
    text = text_of([*rows("b", "a", "b"), {"text": "", "label": "a"}])
    report = context(own("jsonl", text, rows("a"), missing="drop", limits={"train": 2})).splits.reports["train"]
    assert (report.rows, report.dropped) == (3, 1)
    assert {name: seen.count for name, seen in report.labels.items()} == {"b": 2, "a": 1}


def test_generated_data_has_its_names(tmp_path: Path, laboratory: Path) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text(
        f"task: classification\nmodel: {{name: {laboratory / 'model'}}}\ndata: {{generated: acceptability}}\n"
    )
    names, found = classes(recipe)
    assert names == list(LABELS)
    assert set(found["validation"]) == set(LABELS)
