"""Outputs that another system made: every form of the file is read alike, and each output finds its input."""

from __future__ import annotations

import gzip
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


@pytest.mark.parametrize("sign", ["\u2028", "\x0b", "\x0c", "\x85"])
@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl", "txt"])
def test_lines_end_at_line_feeds_only(tmp_path: Path, suffix: str, sign: str) -> None:
    text = f"one{sign}line"
    record = json.dumps({"input": "c", "output": text}, ensure_ascii=False)
    forms = {"tsv": f"input\toutput\r\nc\t{text}\r\n", "csv": f"input,output\nc,{text}\n", "jsonl": record}
    (tmp_path / f"a.{suffix}").write_bytes(forms.get(suffix, f"{text}\n").encode())
    assert [output.text for output in read_outputs(tmp_path / f"a.{suffix}")] == [text]


def test_a_quote_in_a_tsv_file_is_a_character_but_where_a_tool_for_csv_wrote_it(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('input\toutput\nc\t"z"\na b\t"y" x\n', encoding="utf-8")
    assert [record["prediction"] for record in score_file(recipe, tmp_path / "a.tsv")[1]] == ['"y" x', '"z"']
    (tmp_path / "a.tsv").write_text('input\toutput\n"c"\t"z ""z"""\n"a b"\ty x\n', encoding="utf-8")
    assert [record["prediction"] for record in score_file(recipe, tmp_path / "a.tsv")[1]] == ["y x", 'z "z"']


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_a_tool_for_csv_quotes_an_output_alone(recipe: Recipe, tmp_path: Path, name: str) -> None:
    written = b'input\toutput\nc\t"a ""z"", b"\n"a b"\t""\n'
    (tmp_path / name).write_bytes(gzip.compress(written) if name.endswith(".gz") else written)
    assert [record["prediction"] for record in score_file(recipe, tmp_path / name)[1]] == ["", 'a "z", b']


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_rows_that_were_passed_on_whole_are_known_by_their_names(recipe: Recipe, tmp_path: Path, name: str) -> None:
    """The references beside the predictions are no outputs, and inputs are found by the data's name for them."""
    rows = [{"source": source, "output": target} for source, target in ROWS[1:]]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    passed_on = [{**row, "prediction": row["source"]} for row in reversed(rows)]
    table = "source,output,prediction\n" + "".join(",".join(row.values()) + "\n" for row in passed_on)
    lines = "".join(json.dumps(row) + "\n" for row in passed_on)
    (tmp_path / name).write_text(lines if name == "a.jsonl" else table, encoding="utf-8")
    other = recipe.model_copy(update={"data": recipe.data.model_copy(update={"columns": ("source",)})})
    records = score_file(other, tmp_path / name)[1]
    assert [(record["input"], record["prediction"]) for record in records] == [("a b", "a b"), ("c", "c")]


def test_lines_of_a_conversations_answer_stay_lines(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": "x"}]
    (tmp_path / "test.jsonl").write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
    chat = Recipe.model_validate(
        {
            **{"name": "tiny", "task": "chat", "model": {"name": "owner/base"}},
            "data": {
                **{"path": str(tmp_path), "columns": ["prompt"], "label": "completion"},
                "splits": {"train": "test", "eval": ["test"]},
            },
            "eval": {"metrics": ["bleu"]},
        }
    )
    (tmp_path / "a.jsonl").write_text('{"input": "a", "prediction": " one\\n  two "}\n', encoding="utf-8")
    assert score_file(chat, tmp_path / "a.jsonl")[1][0]["prediction"] == "one\n  two"


def test_half_a_character_is_refused_by_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('\n{"output": "a \\ud83d"}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.jsonl:2: 'output' has half a character in it, \\ud83d; write"):
        list(read_outputs(tmp_path / "a.jsonl"))


def test_a_recipe_with_two_evaluation_splits_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    splits = recipe.data.splits.model_copy(update={"eval": ("test", "test2")})
    two = recipe.model_copy(update={"data": recipe.data.model_copy(update={"splits": splits})})
    with pytest.raises(UserError, match=r"predictions belong to one split, got test, test2"):
        score_file(two, tmp_path / "a.tsv")
