from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from autolora.data.files import column_names, is_local, leaves_folder, split_files
from autolora.data.reading.parquet import open_parquet
from autolora.data.reading.source import Source
from autolora.errors import UserError
from autolora.recipe.schema import Data


def data(root: Path, path: str = ".") -> Data:
    return Data(path=path, root=str(root))


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet", "conll", "jsonl.gz", "csv.zst"])
def test_a_split_is_the_file_of_its_name_with_any_known_suffix(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / f"train.{suffix}").touch()
    assert split_files(data(tmp_path, "d"), "train") == [tmp_path / "d" / f"train.{suffix}"]
    assert split_files(data(tmp_path, "d"), f"train.{suffix}") == [tmp_path / "d" / f"train.{suffix}"]


def test_a_split_with_two_files_has_to_be_named_in_full(tmp_path: Path) -> None:
    for suffix in ("csv", "jsonl"):
        (tmp_path / f"train.{suffix}").touch()
    with pytest.raises(UserError, match=r"'train' is ambiguous in .*: train\.jsonl, train\.csv; name the file, suffix"):
        split_files(data(tmp_path), "train")
    assert [file.name for file in split_files(data(tmp_path), "train.csv")] == ["train.csv"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("part-0.csv", "part-0.csv.gz"), "part-0.csv and part-0.csv.gz in .* are one file in two forms"),
        (("a.csv", "a.jsonl", "b.csv"), "are one file in two forms, whose rows would count twice"),
        (("train-00000-of-00003.csv", "train-00002-of-00003.csv"), "of the 3 shards in .* there are 2"),
        (("x-00000-of-00002.csv", "x-00000-of-00002.jsonl", "x-00001-of-00002.csv"), "in two forms"),
    ],
)
def test_a_folder_of_files_has_every_row_once(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    (tmp_path / "train").mkdir()
    for name in names:
        (tmp_path / "train" / name).touch()
    for split in ("train", "glob:train/*"):
        with pytest.raises(UserError, match=rf"split .*{said}"):
            split_files(data(tmp_path), split)


def test_a_folder_of_other_names_and_whole_shards_is_a_split(tmp_path: Path) -> None:
    names = ["a-00000-of-00002.csv", "a-00001-of-00002.csv", "b.csv", "c.jsonl"]
    (tmp_path / "train").mkdir()
    for name in names:
        (tmp_path / "train" / name).touch()
    assert [path.name for path in split_files(data(tmp_path), "train")] == names


def test_a_missing_split_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no split 'train' in .*; it has no file that ends in \.jsonl, "):
        split_files(data(tmp_path), "train")
    (tmp_path / "validation.csv").touch()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"it has: validation; did you mean 'validation'\?$"):
        split_files(data(tmp_path), "validatoin")


def test_a_missing_folder_names_the_part_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "glue").mkdir()
    with pytest.raises(UserError, match=r"no data folder .*/gleu/cola; .* has no 'gleu'; did you mean 'glue'\?"):
        split_files(data(tmp_path, "gleu/cola"), "train")


@pytest.mark.parametrize("split", ["../train", "/etc/train.csv"])
def test_a_split_does_not_leave_its_folder(tmp_path: Path, split: str) -> None:
    with pytest.raises(UserError, match="must name a file inside"):
        split_files(data(tmp_path), split)


@pytest.mark.parametrize(
    ("path", "leaves"),
    [("a/b", False), (".", False), ("a/..", False), ("a/../b", False), ("..", True), ("a/../../b", True)],
)
def test_a_path_leaves_its_folder_when_it_climbs_above_it(path: str, leaves: bool) -> None:
    assert leaves_folder(path) is leaves


def test_data_is_local_with_a_root_or_without_a_hub() -> None:
    assert is_local(Data(path="a"))
    assert is_local(Data(hub="a/b", root="/x"))
    assert not is_local(Data(hub="a/b", path="c"))
    assert not is_local(Data(generated="acceptability", root="/x"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '\n{"a": 1, "b, c": 2}\n'),
        ("a.json", '{"a": 1, "b, c": 2}\n{"a": 2}\n'),
        ("a.json", '[\n  {\n "a": 1,\n "b, c": 2}\n]'),
        ("a.csv", 'a,"b, c"\n1,2\n'),
        ("a.csv", '\ufeffa,"b, c"\r\n1,2\r\n'),
        ("a.tsv", "a\tb, c\n1\t2\n"),
    ],
)
def test_columns_are_read_from_the_first_line(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert column_names(tmp_path / name) == ["a", "b, c"]


def test_columns_of_parquet_are_read_from_its_schema(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "a.parquet")
    assert column_names(tmp_path / "a.parquet") == ["a", "b"]


def test_a_text_of_parquet_that_is_no_utf8_is_refused_with_its_rows(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"\xb0\xff"], pa.binary()).buffers()
    parquet.write_table(pa.table({"a": pa.StringArray.from_buffers(2, raw[1], raw[2])}), tmp_path / "a.parquet")
    table = open_parquet(Source(tmp_path / "a.parquet"))
    with pytest.raises(UserError, match=r"a\.parquet: a text of rows 1 to 2 is not UTF-8 .*; write it anew"):
        list(table.rows(["a"]))


def test_a_parquet_file_without_rows_is_an_error(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="the file has no rows"):
        column_names(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "the file is empty"),
        ("a.jsonl", b"\n\n", "the file has only empty lines"),
        ("a.jsonl", b'\n{"a": \n', r"a\.jsonl:2: the line is no JSON: Expecting value at character 6"),
        ("a.jsonl", b"[1, 2]\n", r"a\.jsonl:1: the line must be a JSON object, got \[1, 2\]"),
        ("a.json", b"[1, 2]", "must be a JSON array of objects"),
        ("a.jsonl", b'{"\xff": 1}\n', r"a\.jsonl:1: the line is not UTF-8 text"),
        ("a.csv", b"\na,b\n", r"a\.csv:1: the first line must name the columns"),
        ("a.csv", b"a,b\n\n", "the file has no rows, only the columns' names"),
        ("a.json", b'[{"a": 1,\n  b}]', r"a\.json:2: the file is no JSON: "),
        ("a.parquet", b"no parquet", "this is no Parquet file"),
    ],
)
def test_a_malformed_file_is_named_with_the_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        column_names(tmp_path / name)
