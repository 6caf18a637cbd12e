"""Files as people bring them, through a recipe: what stands in the file is what is read, or it is refused by line."""

from __future__ import annotations

import bz2
import decimal
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict
from pyarrow import parquet

from tests.methods.support import write_generation_laboratory
from tests.own_data import classes, context, encoded, read, refusal, text_of, write

ROWS = [{"text": "a cat", "label": "pos"}, {"text": "a dog", "label": "neg"}]
FINE = text_of(ROWS)
FIVE = [{"text": f"t{i}\n", "label": "ab"[i % 2]} for i in range(5)]
Write = Callable[..., Path]


@pytest.fixture
def own(tmp_path: Path, laboratory: Path) -> Write:
    """Writes train and validation files, the second a good one unless it is given, and the recipe for them."""

    def write_them(name: str, content: Any, **data: Any) -> Path:
        files = {name: content} if "validation" in name else {name: content, "validation.jsonl": FINE}
        more = data.pop("more", {})
        return write(tmp_path, laboratory, {**files, **more}, **data)

    return write_them


# TSV


@pytest.mark.parametrize(("task", "name", "columns", "label"), [
    ("classification", "mrpc", ["sentence1", "sentence2"], "label"),
    ("classification", "rte", ["sentence1", "sentence2"], "label"),
    ("regression", "stsb", ["sentence1", "sentence2"], "label"),
])  # fmt: skip
def test_the_original_tsv_files_of_glue_hold_what_the_json_lines_hold(
    tmp_path: Path, laboratory: Path, shared_data: Path, task: str, name: str, columns: list[str], label: str
) -> None:
    rows: dict[str, list[dict[str, Any]]] = {}
    files: dict[str, str] = {}
    for split in ("train", "validation"):
        lines = (shared_data / "glue" / name / f"{split}.jsonl").read_text(encoding="utf-8").split("\n")
        rows[split] = [json.loads(line, parse_float=str, parse_int=str) for line in lines if line]
        files[f"{split}.tsv"] = GLUE[name](rows[split])
    used = {"mrpc": ["#1 String", "#2 String", "Quality"], "stsb": ["sentence1", "sentence2", "score"]}
    header = used.get(name, ["sentence1", "sentence2", "label"])
    found = read(write(tmp_path, laboratory, files, task, columns=header[:2], label=header[2]))
    assert any(text.startswith('"') for row in rows["train"] for text in (row["sentence1"], row["sentence2"]))
    for split, wanted in rows.items():
        for column, key in zip(header, [*columns, label], strict=True):
            assert found[split][column] == [row[key] for row in wanted]


def _mrpc(rows: list[dict[str, Any]]) -> str:
    lines = ["\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String"]
    lines += [f"{r['label']}\t{i}\t{i + 9}\t{r['sentence1']}\t{r['sentence2']}" for i, r in enumerate(rows)]
    return "".join(f"{line}\r\n" for line in lines)


def _rte(rows: list[dict[str, Any]]) -> str:
    return "index\tsentence1\tsentence2\tlabel\n" + "".join(
        f"{i}\t{r['sentence1']}\t{r['sentence2']}\t{r['label']}\n" for i, r in enumerate(rows)
    )


def _stsb(rows: list[dict[str, Any]]) -> str:
    names = "index genre filename year old_index source1 source2 sentence1 sentence2 score"
    return (
        names.replace(" ", "\t")
        + "\n"
        + "".join(
            f"{i}\tmain-news\theadlines\t2015\t0010\tnone\tnone\t{r['sentence1']}\t{r['sentence2']}\t{r['label']}\n"
            for i, r in enumerate(rows)
        )
    )


GLUE: dict[str, Callable[[list[dict[str, Any]]], str]] = {"mrpc": _mrpc, "rte": _rte, "stsb": _stsb}


def test_a_quote_in_a_tsv_file_is_a_character(own: Write) -> None:
    texts = ['"Good', 'bad"', '"both"', 'a "b" c', '""', "it's"]
    table = "text\tlabel\n" + "".join(f"{text}\t{i % 2}\n" for i, text in enumerate(texts))
    assert read(own("train.tsv", table, labels=["neg", "pos"]))["train"] == {
        "text": texts,
        "label": ["0", "1", "0", "1", "0", "1"],
    }


def test_a_tsv_row_with_a_tab_too_many_is_refused_by_line(own: Write) -> None:
    assert refusal(own("train.tsv", "text\tlabel\na\tx\n\nb\tc\ty\n")).endswith(
        "data/train.tsv:4: the row has 3 fields, the header 2; a field cannot hold a tab or a line break"
    )


# CSV


def test_an_unquoted_comma_is_refused_by_line(own: Write) -> None:
    table = "text,label\n" + "Great acting, seen twice,pos\nBad acting, seen once,neg\n"
    assert refusal(own("train.csv", table)).endswith(
        "data/train.csv:2: the row has 3 fields, the header 2; put a field that holds a comma into double quotes"
    )


def test_a_row_with_a_field_too_few_is_refused_by_its_first_line(own: Write) -> None:
    assert "data/train.csv:4: the row has 1 fields, the header 2" in refusal(
        own("train.csv", 'text,label\n"a\nb",pos\nc\n"d",neg\n')
    )


def test_scores_may_turn_to_fractions_after_ten_thousand_rows(own: Write) -> None:
    table = "text,label,other\n" + "".join(f"a,{i % 5},{i}\n" for i in range(10_000)) + "b,2.5,x\n"
    found = read(own("train.csv", table, task="regression", more={"validation.jsonl": '{"text": "a", "label": 1}'}))
    assert len(found["train"]["label"]) == 10_001
    assert found["train"]["label"][-2:] == ["4", "2.5"]


def test_a_column_that_is_not_named_may_hold_anything(own: Write) -> None:
    rows = [{**ROWS[i % 2], "junk": junk} for i, junk in enumerate([1, "x", None, [1], {"a": 1}, 2.5, True, ""])]
    assert list(read(own("train.jsonl", rows))["train"]) == ["text", "label"]


def test_csv_quotes_are_those_of_rfc_4180(own: Write) -> None:
    table = 'text,label\r\n"he said ""no"", twice",pos\r\na \\"b\\",neg\r\n"two\r\nlines\\",pos\r\n'
    assert read(own("train.csv", table))["train"]["text"] == ['he said "no", twice', 'a \\"b\\"', "two\r\nlines\\"]


@pytest.mark.parametrize(("row", "message"), [
    ('"he said \\"no\\"",pos', "train.csv:3: the row is malformed: a quoted field goes on after its closing quote; CSV "
     "follows RFC 4180: a field with a quote in it stands in quotes, and the quote in it is doubled"),
    ('"never closed,pos', "train.csv:3: the row is malformed: the quote that opens in this row is never closed"),
    ("a\rb,pos", "train.csv:3: the row is malformed: a carriage return stands in a field without quotes"),
])  # fmt: skip
def test_other_quotes_are_refused_by_line(own: Write, row: str, message: str) -> None:
    assert message in refusal(own("train.csv", f"text,label\na,neg\n{row}\nb,pos\n"))


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_field_may_be_of_any_length(own: Write, suffix: str) -> None:
    long = "word " * 100_000
    table = f"text,label\n{long},pos\nb,neg\n".replace(",", "\t" if suffix == "tsv" else ",")
    assert read(own(f"train.{suffix}", table))["train"]["text"] == [long, "b"]


def test_two_columns_of_a_name_that_the_recipe_uses_are_refused(own: Write) -> None:
    assert "has 2 columns of the name 'text'; rename all but the one that is meant" in refusal(
        own("train.csv", "text,text,label\na,b,pos\nc,d,neg\n")
    )
    assert "train.jsonl:2: the object has the key 'label' twice" in refusal(
        own("train.jsonl", FINE.split("\n")[0] + '\n{"text": "a", "label": "pos", "label": "neg"}\n', more={
            "train.csv": ""
        }, splits={"train": "train.jsonl"})
    )  # fmt: skip


def test_columns_of_one_name_that_is_not_used_are_nothing_to_care_about(own: Write) -> None:
    assert read(own("train.csv", "x,text,x,label\n1,a,2,pos\n1,b,2,neg\n"))["train"]["text"] == ["a", "b"]


# JSON


def test_json_texts_stay_as_they_stand(own: Write) -> None:
    texts: list[Any] = ["2024-01-02", "2023-12-31T10:00:00", "1e5", "007", "NaN", "null", 42, 1.5, True]
    rows = [{"text": text, "label": "ab"[i % 2]} for i, text in enumerate(texts)]
    more = {"validation.jsonl": [{"text": "2024-01-02", "label": "a"}]}
    found = read(own("train.jsonl", rows, more=more))
    assert found["train"]["text"] == [*texts[:6], "42", "1.5", "true"]
    assert found["validation"]["text"] == ["2024-01-02"]


def test_references_may_be_texts_and_lists_of_them(tmp_path: Path) -> None:
    decoder = write_generation_laboratory(tmp_path / "decoder", "gpt2")
    rows = [{"in": "a", "out": '"quoted"'}, {"in": "b", "out": ["one", "two"]}, {"in": "c", "out": "three"}]
    files = {"train.jsonl": rows, "validation.jsonl": rows}
    recipe = write(tmp_path, decoder, files, "generation", columns=["in"], label="out")
    assert read(recipe)["train"]["out"] == [['"quoted"'], ["one", "two"], ["three"]]
    assert [e["references"] for e in context_task(recipe)] == [['"quoted"'], ["one", "two"], ["three"]]


def test_words_that_are_numbers_stay_as_they_stand(own: Write) -> None:
    line = '{"text": ["v", 1.0, 42, "42", 1e3], "label": ["O", "B-x", "O", "O", "O"]}\n'
    recipe = own("train.jsonl", line, task="tagging", more={"validation.jsonl": line})
    assert read(recipe)["train"]["text"] == [["v", "1.0", "42", "42", "1e3"]]


def test_the_index_is_kept_where_there_is_one_and_may_be_missing(own: Write) -> None:
    rows = [{**ROWS[0], "idx": 7}, {**ROWS[1], "idx": None}, {**ROWS[1], "idx": {"a": 1}}]
    assert read(own("train.jsonl", rows))["train"]["idx"] == ["7", None, None]


def context_task(recipe: Path) -> list[Any]:
    made = context(recipe)
    return made.task.grouped(made.splits["validation"])


@pytest.mark.parametrize("text", [
    json.dumps([{**row, "more": [1]} for row in FIVE], indent=1),
    '{"version": "1.1", "more": {"a": [1]}, "data": ' + json.dumps(FIVE) + ', "n": 5}\n',
    text_of(FIVE),
])  # fmt: skip
def test_json_is_an_array_an_object_with_data_or_lines(own: Write, text: str) -> None:
    recipe = own("train.json", text, more={"validation.jsonl": '{"text": "x", "label": "a"}\n'})
    assert read(recipe)["train"] == {"text": [f"t{i}\n" for i in range(5)], "label": list("ababa")}


def test_a_long_json_array_is_read_piece_by_piece(own: Write) -> None:
    rows = [{"text": "x" * length, "label": "ab"[i % 2]} for i, length in enumerate([5, 3_000_000, 1, 1_048_560, 9])]
    found = read(own("train.json", json.dumps(rows), more={"validation.jsonl": '{"text": "x", "label": "a"}\n'}))
    assert [len(text) for text in found["train"]["text"]] == [5, 3_000_000, 1, 1_048_560, 9]


@pytest.mark.parametrize(("text", "message"), [
    ('[{"text": "a", "label": "x"},\n {"text": "b" "label": 1}]', "train.json:2: the file is no JSON: Expecting ','"),
    ('[{"text": "a", "label": "x"},\n', "train.json:2: the file is no JSON: Expecting value"),
    ('[{"text": "a", "label": "x"}\n{"text": "b"}]', "train.json:2: the file is no JSON: '{' stands where"),
    ('[{"text": "a", "label": "x"}]\n[', "train.json:2: the file goes on after its JSON value"),
    ('[{"text": "a", "label": "x"},\n 3]', "train.json:2: must be a JSON array of objects, got '3' in it"),
    ('[{"text": "a", "label": "x"}, {"text": "", "label": "x"}]', "train.json, row 2: 'text' is missing"),
])  # fmt: skip
def test_a_malformed_array_is_refused_by_line(own: Write, text: str, message: str) -> None:
    assert message in refusal(own("train.json", text))


# What is missing


@pytest.mark.parametrize(("name", "content", "place"), [
    ("train.csv", 'text,label\na,pos\n"",neg\nb,neg\n', "train.csv:3"),
    ("train.csv", "text,label\na,pos\n,neg\nb,neg\n", "train.csv:3"),
    ("train.tsv", "text\tlabel\na\tpos\n\tneg\nb\tneg\n", "train.tsv:3"),
    ("train.jsonl", [ROWS[0], {"text": "", "label": "neg"}, ROWS[1]], "train.jsonl:2"),
    ("train.jsonl", [ROWS[0], {"text": None, "label": "neg"}, ROWS[1]], "train.jsonl:2"),
    ("train.jsonl", [ROWS[0], {"label": "neg"}, ROWS[1]], "train.jsonl:2"),
    ("train.jsonl", [ROWS[0], {"text": float("nan"), "label": "neg"}, ROWS[1]], "train.jsonl:2"),
    ("train.json", json.dumps([ROWS[0], {"text": "", "label": "neg"}, ROWS[1]]), "train.json, row 2"),
])  # fmt: skip
def test_a_missing_cell_is_refused_or_its_row_dropped_and_counted(
    own: Write, capsys: pytest.CaptureFixture[str], name: str, content: Any, place: str
) -> None:
    wanted = f"data/{place}: 'text' is missing; fill it in, or leave such rows out with data.missing: drop"
    assert refusal(own(name, content)).endswith(wanted)
    found = read(own(name, content, missing="drop"))["train"]
    assert found["label"] == ["pos", "neg"]
    said = capsys.readouterr().err
    assert "split 'train': 1 of 3 rows are dropped, since a cell is missing; the first: " in said
    assert f"data/{place}" in said


@pytest.mark.parametrize("sign", [";", "|", "\t"])
def test_columns_parted_by_another_sign_are_said_to_be(own: Write, sign: str) -> None:
    text = f"text{sign}label\nthe cat{sign}a\nthe dog{sign}b\n"
    assert f"are the columns parted by {sign!r}?" in refusal(own("train.csv", text))


@pytest.mark.parametrize("row", [["text", " \u00a0 "], ["label", "  "]])
def test_blanks_alone_are_missing(own: Write, row: list[str]) -> None:
    lines = [{"text": "the a", "label": "x"}, {"text": "the b", "label": "y", row[0]: row[1]}]
    assert f"train.jsonl:2: {row[0]!r} is missing" in refusal(own("train.jsonl", text_of(lines)))


def test_an_empty_label_is_missing(own: Write) -> None:
    assert "train.jsonl:3: 'label' is missing" in refusal(own("train.jsonl", [*ROWS, {"text": "a", "label": ""}]))


def test_null_and_empty_text_are_missing_in_parquet(own: Write, tmp_path: Path) -> None:
    for values in (["a", None, "b"], ["a", "", "b"]):
        table = pa.table({"text": values, "label": ["x", "y", "y"]})
        parquet.write_table(table, tmp_path / "train.parquet")
        content = (tmp_path / "train.parquet").read_bytes()
        assert "train.parquet, row 2: 'text' is missing" in refusal(own("train.parquet", content))


def test_a_split_whose_rows_are_all_dropped_is_refused(own: Write) -> None:
    rows = [{"text": "", "label": "x"}] * 2
    assert "split 'train' is empty: all of its 2 rows lack a cell" in refusal(own("train.jsonl", rows, missing="drop"))


# Encodings


def test_latin_1_is_refused_by_line_and_read_where_the_recipe_says_so(own: Write) -> None:
    rows = [*ROWS * 3000, {"text": "café", "label": "pos"}]
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("latin-1")
    recipe = own("train.jsonl", content, more={"validation.jsonl": FINE})
    assert "data/train.jsonl:6001: the line is not UTF-8 text (" in refusal(recipe)
    assert "name its encoding in data.encoding (latin-1, " in refusal(recipe)
    recipe = own("train.jsonl", content, more={"validation.jsonl": FINE}, encoding="latin-1")
    assert read(recipe)["train"]["text"][-1] == "café"


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "cp1252", "utf-8-sig"])
def test_other_encodings_are_read_in_every_format_of_text(own: Write, suffix: str, encoding: str) -> None:
    table = "text,label\ncafé,pos\nb,neg\n".replace(",", "\t" if suffix == "tsv" else ",")
    rows = [{"text": "café", "label": "pos"}, {"text": "b", "label": "neg"}]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    text = {"jsonl": lines, "json": json.dumps(rows, ensure_ascii=False)}.get(suffix, table)
    content = text.encode(encoding)
    recipe = own(f"train.{suffix}", content, encoding=encoding, more={f"validation.{suffix}": content,
                 "validation.jsonl": content}, splits={"eval": [f"validation.{suffix}"]})  # fmt: skip
    assert read(recipe)["train"] == {"text": ["café", "b"], "label": ["pos", "neg"]}


@pytest.mark.parametrize(("encoding", "content", "place", "said"), [
    ("utf-16", FINE.encode("utf-16-le"), 1, "UTF-16 text (it begins with no byte-order mark, which utf-16-le"),
    ("utf-32", FINE.encode("utf-32-le"), 1, "UTF-32 text (it begins with no byte-order mark"),
    ("unicode_escape", FINE.encode() + b"\\xq\n", 3, "UNICODE_ESCAPE text (truncated \\xXX escape)"),
    ("punycode", FINE.encode(), 1, "PUNYCODE text (Invalid extended code point"),
])  # fmt: skip
def test_whatever_a_codec_raises_is_refused_by_line(
    own: Write, encoding: str, content: bytes, place: int, said: str
) -> None:
    recipe = own("train.jsonl", content, encoding=encoding, more={"validation.jsonl": content})
    assert f"train.jsonl:{place}: the line is not {said}" in refusal(recipe)


@pytest.mark.parametrize("encoding", ["utf-9", "hex", ""])
def test_an_encoding_that_is_none_is_a_fault_of_the_recipe(own: Write, encoding: str) -> None:
    assert (
        f"data.encoding: must be a text encoding, utf-8, latin-1 or utf-16 for instance, got {encoding!r}"
        in refusal(own("train.jsonl", FINE, encoding=encoding))
    )


# Lines


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x0b", "\x0c", "\x85", "\x1c"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_lines_end_at_line_feeds_only(own: Write, suffix: str, sign: str) -> None:
    text = f"one{sign}line"
    table = f"text,label\n{text},pos\nb,neg\n,pos\n".replace(",", "\t" if suffix == "tsv" else ",")
    rows = [{"text": text, "label": "pos"}, {"text": "b", "label": "neg"}, {"text": "", "label": "pos"}]
    if suffix == "jsonl":
        table = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert f"train.{suffix}:{3 if suffix == 'jsonl' else 4}: 'text' is missing" in refusal(
        own(f"train.{suffix}", table)
    )
    assert read(own(f"train.{suffix}", table, missing="drop"))["train"]["text"] == [text, "b"]


def test_half_a_character_is_refused_by_line(own: Write) -> None:
    content = FINE + '{"text": "a \\ud83d b", "label": "pos"}\n'
    assert refusal(own("train.jsonl", content)).endswith(
        "train.jsonl:3: 'text' has half a character in it, \\ud83d; write the whole pair, or leave it out"
    )
    whole = FINE + '{"text": "a \\ud83d\\ude00 b", "label": "pos"}\n'
    assert read(own("train.jsonl", whole))["train"]["text"][-1] == "a \U0001f600 b"


# Which files


@pytest.mark.parametrize(("ending", "pack"), [
    ("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress),
    ("zst", lambda content: pa.compress(content, "zstd", asbytes=True)),
])  # fmt: skip
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "json"])
def test_compressed_files_are_read(own: Write, suffix: str, ending: str, pack: Callable[[bytes], bytes]) -> None:
    table = "text,label\na,pos\nb,neg\n".replace(",", "\t" if suffix == "tsv" else ",")
    rows = [{"text": "a", "label": "pos"}, {"text": "b", "label": "neg"}]
    text = {"jsonl": text_of(rows), "json": json.dumps(rows)}.get(suffix, table)
    found = read(own(f"train.{suffix}.{ending}", pack(text.encode())))
    assert found["train"] == {"text": ["a", "b"], "label": ["pos", "neg"]}


@pytest.mark.parametrize(("name", "content"), [
    ("train.jsonl.gz", gzip.compress(FINE.encode() * 99, mtime=0)[:-20]), ("train.jsonl.gz", b"plain"),
    ("train.jsonl.zst", b"plain"), ("train.csv.xz", b"plain"),
], ids=["cut off", "gz", "zst", "xz"])  # fmt: skip
def test_a_broken_archive_is_refused_by_name(own: Write, name: str, content: bytes) -> None:
    assert f"data/{name}: the file cannot be read: " in refusal(own(name, content))


def test_the_shards_of_a_split_are_read_in_order(own: Write, tmp_path: Path) -> None:
    shards = {}
    for i in range(3):
        parquet.write_table(pa.table({"text": [f"t{i}"], "label": ["ab"[i % 2]]}), tmp_path / "x.parquet")
        shards[f"train-0000{i}-of-00003.parquet"] = (tmp_path / "x.parquet").read_bytes()
    good = {"validation.jsonl": '{"text": "x", "label": "a"}\n'}
    first = "train-00000-of-00003.parquet"
    assert read(own(first, shards[first], more={**shards, **good}))["train"]["text"] == ["t0", "t1", "t2"]
    (tmp_path / "data" / "train-00001-of-00003.parquet").unlink()
    shards.pop("train-00001-of-00003.parquet")
    assert "split 'train': of the 3 shards in " in refusal(own(first, shards[first], more={**shards, **good}))


def test_shards_of_older_data_sets_of_the_hub_have_a_hash_in_their_names(own: Write, tmp_path: Path) -> None:
    shards = {}
    for i in range(2):
        parquet.write_table(pa.table({"text": [f"t{i}"], "label": ["ab"[i]]}), tmp_path / "x.parquet")
        shards[f"train-0000{i}-of-00002-a09b74b3ef9c3b5{i}.parquet"] = (tmp_path / "x.parquet").read_bytes()
    (first, content), *_ = shards.items()
    recipe = own(first, content, more={**shards, "validation.jsonl": [{"text": "x", "label": "a"}]})
    assert read(recipe)["train"]["text"] == ["t0", "t1"]


@pytest.mark.parametrize("whole", [True, False])
def test_what_save_to_disk_writes_is_refused_with_what_to_do(own: Write, tmp_path: Path, whole: bool) -> None:
    rows = Dataset.from_list(ROWS)
    DatasetDict({"train": rows}).save_to_disk(tmp_path / "data") if whole else rows.save_to_disk(tmp_path / "data")
    said = refusal(own("validation.jsonl", FINE, splits={"eval": ["validation.jsonl"]}))
    assert f"{tmp_path / 'data' / 'train' if whole else tmp_path / 'data'} is what save_to_disk" in said
    assert 'to_parquet("train.parquet")' in said


def test_numbers_of_more_digits_than_a_float_holds_are_different_names(own: Write, tmp_path: Path) -> None:
    numbers = ["12345678901234567890", "12345678901234567891", "1.5"]
    column = pa.array([decimal.Decimal(number) for number in numbers], type=pa.decimal128(24, 2))
    parquet.write_table(pa.table({"text": ["a", "b", "c"], "label": column}), tmp_path / "x.parquet")
    good = {"validation.csv": f"text,label\na,{numbers[1]}\nb,1.5\n"}
    recipe = own("train.parquet", (tmp_path / "x.parquet").read_bytes(), more=good, splits={"eval": ["validation.csv"]})
    assert classes(recipe)[1] == {"train": numbers, "validation.csv": numbers[1:]}


def test_a_split_may_have_a_folder_of_its_own(own: Write) -> None:
    more = {"train/b.csv": "text,label\nb,neg\n", "train/README.md": "no data"}
    assert read(own("train/a.csv", "text,label\na,pos\n", more=more))["train"]["text"] == ["a", "b"]
    assert "is ambiguous in " in refusal(own("train.csv", "text,label\na,pos\n"))


def test_a_split_may_be_a_list_of_files(own: Write) -> None:
    recipe = own("one.csv", "text,label\na,pos\n", more={"two.jsonl": [ROWS[1]]},
                 splits={"train": ["two.jsonl", "one.csv"]})  # fmt: skip
    assert next(iter(read(recipe).values()))["text"] == ["a dog", "a"]
    assert "has the file " in refusal(own("one.csv", "text,label\na,pos\n", splits={"train": ["one.csv", "one.csv"]}))


def test_only_a_pattern_that_says_so_is_one(own: Write) -> None:
    more = {"star1.csv": "text,label\nwrong,neg\n", "v.csv": "text,label\nwrong,neg\n",
            "x::y.csv": "text,label\nc,neg\n",
            "[v].csv": "text,label\nb,neg\n"}  # fmt: skip
    files = {"name": "star*.csv", "content": "text,label\na,pos\nb,neg\n", "more": more}
    assert read(own(**files, splits={"train": "star*.csv"}))["star*.csv"]["text"] == ["a", "b"]
    assert read(own(**files, splits={"train": "star*"}))["star*"]["text"] == ["a", "b"]
    found = read(own(**files, splits={"train": ["star*.csv", "[v].csv", "x::y.csv"]}))
    assert next(iter(found.values()))["text"] == ["a", "b", "b", "c"]
    assert read(own(**files, splits={"train": "glob:star*.csv"}))["glob:star*.csv"]["text"] == ["a", "b", "wrong"]
    assert "split 'glob:none-*': no file in " in refusal(own(**files, splits={"train": "glob:none-*"}))
    assert "no split 'star?.csv' in " in refusal(own(**files, splits={"train": "star?.csv"}))


def test_a_path_with_signs_of_patterns_is_a_path(tmp_path: Path, laboratory: Path) -> None:
    files = {"[v1]/a*b::c/train.jsonl": FINE, "[v1]/a*b::c/validation.jsonl": FINE, "v/a1b::c/train.jsonl": "wrong"}
    recipe = write(tmp_path, laboratory, files, path="data/[v1]/a*b::c")
    assert read(recipe)["train"]["text"] == ["a cat", "a dog"]


def test_a_file_that_is_trained_on_too_is_a_fault(own: Write) -> None:
    recipe = own("train.jsonl", FINE, splits={"train": "glob:t*.jsonl", "eval": ["train.jsonl"]})
    assert "data.splits.eval: 'train.jsonl' is the training split's file, train.jsonl" in refusal(recipe)


def test_an_unknown_format_is_refused_by_name(own: Write) -> None:
    message = refusal(own("train.csv.zip", "PK", splits={"train": "train.csv.zip"}))
    assert "no split 'train.csv.zip' in " in message


# CoNLL

SENTENCES = {"tokens": [["New York", "is"], ["#MeToo", "#"]], "ner_tags": [["B-LOC", "O"], ["O", "O"]]}
GERMEVAL = (
    "#\thttp://de.example.org/1\t[2009-10-17]\n1\tNew York\tB-LOC\tO\n2\tis\tO\tB-ORG\n\n"
    "#\thttp://de.example.org/2\t[2009-10-17]\n1\t#MeToo\tO\tO\n2\t#\tO\tO\n\n"
)
CONLLU = (
    "# newdoc id = 1\n# text = New York is\n1\tNew York\tPROPN\tB-LOC\n2-3\tisn't\t_\t_\n2\tis\tAUX\tO\n\n"
    "# text = x\n1\t#MeToo\tX\tO\n1.1\tempty\tX\tO\n2\t#\tX\tO\n"
)


@pytest.mark.parametrize(("name", "text", "label"), [("train.conll", GERMEVAL, 2), ("train.conllu", CONLLU, 3)])
def test_conll_files_have_comments_numbers_and_words_with_blanks(own: Write, name: str, text: str, label: int) -> None:
    settings = {"task": "tagging", "splits": {"train": name, "eval": [f"validation{name[5:]}"]},
                "more": {f"validation{name[5:]}": text}}  # fmt: skip
    found = read(own(name, text, columns=[1], label=label, **settings))[name]
    assert found == {"1": SENTENCES["tokens"], str(label): SENTENCES["ner_tags"]}
    assert "the first column counts the words of each sentence; say which columns hold the words" in refusal(
        own(
            name, text if name == "train.conll" else text.replace("_", "O"), columns=["tokens"], label=label, **settings
        )
    )


def test_lines_without_tabs_split_at_blanks_and_no_other_white_space(own: Write) -> None:
    text = "10\u00a0km  B-x\nis O\n\n# O\n#tag B-x\n"
    recipe = own("train.conll", text, task="tagging", columns=["tokens"], label="ner_tags",
                 more={"validation.conll": text}, splits={"eval": ["validation.conll"]})  # fmt: skip
    assert read(recipe)["train"]["tokens"] == [["10\u00a0km", "is"], ["#", "#tag"]]


def test_a_comment_within_a_sentence_is_refused_by_line(own: Write) -> None:
    recipe = own("train.conll", "a\tO\n# no word\nb\tO\n", task="tagging", columns=["tokens"], label="ner_tags",
                 more={"validation.conll": "a\tO\n"}, splits={"eval": ["validation.conll"]})  # fmt: skip
    assert "train.conll:2: the line must have 2 columns, as the lines before, got '# no word'" in refusal(recipe)


def test_a_column_number_that_is_none_is_a_fault(own: Write) -> None:
    recipe = own("train.conll", "a\tO\n", task="tagging", columns=[1], label=2,
                 more={"validation.conll": "a\tO\n"}, splits={"eval": ["validation.conll"]})  # fmt: skip
    assert "data.label: no column '2' in " in refusal(recipe)


# Memory and truncation


def test_texts_far_longer_than_the_model_reads_are_encoded_as_whole_ones(own: Write, laboratory: Path) -> None:
    from transformers import AutoTokenizer

    words = ["the", "cat", "sees", "dog"]
    texts = [" ".join(words[(i + j) % 4] for j in range(n)) for i, n in enumerate([3, 5000, 200_000])]
    texts += ["x" * 50_000, " " * 40_000 + "the cat", "y" * 300_000 + " the cat" * 9000]
    rows = [{"text": text, "label": "ab"[i % 2]} for i, text in enumerate(texts)]
    found = encoded(own("train.jsonl", rows, max_length=16, more={"validation.jsonl": rows[:2]}))["train"]
    tokenizer = AutoTokenizer.from_pretrained(laboratory / "model")
    wanted = tokenizer(texts, truncation=True, max_length=16)["input_ids"]
    assert [example["input_ids"] for example in found] == wanted
