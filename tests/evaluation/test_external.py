"""Outputs that another system made: every form of the file is read alike, and each output finds its input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autolora.errors import UserError
from autolora.evaluation.external import Output, read_outputs, score_file
from autolora.recipe.schema import Recipe

ROWS = [("a b", "x y"), ("a b", "y x"), ("c", "z")]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """A recipe of two inputs, one of them with two references."""
    lines = [json.dumps({"input": source, "output": target}) + "\n" for source, target in ROWS]
    (tmp_path / "test.jsonl").write_text("".join(lines), encoding="utf-8")
    return Recipe.model_validate(
        {
            "name": "tiny",
            "task": "generation",
            "model": {"name": "owner/base"},
            "data": {
                **{"path": str(tmp_path), "columns": ["input"], "label": "output"},
                "splits": {"train": "test", "eval": ["test"]},
            },
            "eval": {"metrics": ["bleu"]},
        }
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", "MR\tnote\tOutput\na b\t-\tx\nc\t-\tz\n"),
        ("a.csv", 'input,prediction\n"a b",x\nc,z\n'),
        ("a.jsonl", '{"triples": "a b", "hypothesis": "x"}\n\n{"triples": "c", "hypothesis": "z"}\n'),
    ],
)
def test_tables_and_json_lines_give_inputs_and_outputs(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    first = 1 if name == "a.jsonl" else 2  # below a header
    assert list(read_outputs(tmp_path / name)) == [Output(first, "a b", "x"), Output(3, "c", "z")]


def test_plain_lines_give_outputs_alone_and_a_byte_order_mark_is_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeffx y\n\nz\n", encoding="utf-8")
    assert list(read_outputs(tmp_path / "a.txt")) == [Output(1, None, "x y"), Output(2, None, ""), Output(3, None, "z")]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.txt", b"x\n\xff\xfe", ":2: the line is not UTF-8 text .*; save the file as UTF-8$"),
        ("b.txt", b" \n", ": the file is empty"),
    ],
)
def test_a_file_that_holds_no_text_is_named(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=rf"{name}{said}"):
        list(read_outputs(tmp_path / name))


def test_outputs_are_scored_against_all_references_of_their_input_in_any_order(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("input\toutput\nc\tz\na b\ty  x\n", encoding="utf-8")
    (row,), records = score_file(recipe, tmp_path / "a.tsv")
    assert (row["split"], row["examples"]) == ("test", 2)
    assert [(record["input"], record["prediction"]) for record in records] == [("a b", "y x"), ("c", "z")]
    assert [record["references"] for record in records] == [["x y", "y x"], ["z"]]


def test_a_recipe_with_two_evaluation_splits_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    splits = recipe.data.splits.model_copy(update={"eval": ("test", "test2")})
    two = recipe.model_copy(update={"data": recipe.data.model_copy(update={"splits": splits})})
    with pytest.raises(UserError, match=r"predictions belong to one split, got test, test2"):
        score_file(two, tmp_path / "a.tsv")
