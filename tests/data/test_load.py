import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from huggingface_hub import constants
from pyarrow import parquet

from autolora.data.load import content_hash, load_splits
from autolora.errors import UserError
from autolora.recipe.schema import Data, Limits, Splits
from autolora.tasks.classification import Classification

ROWS = [{"sentence": "NA", "label": 1, "idx": 7, "junk": 0}, {"sentence": 'a, "b"', "label": 0, "idx": 8, "junk": 0}]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def local(folder: Path, **settings: Any) -> Data:
    return Data(path=".", root=str(folder), **settings)


def name_of(number: str) -> str:
    return number.removesuffix(".0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_text(lines(ROWS))
    return tmp_path


def test_real_data_comes_complete_and_in_order(shared_data: Path) -> None:
    splits = load_splits(
        Data(path="glue/stsb", root=str(shared_data), columns=("sentence1", "sentence2")), 0, Classification
    )
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 5749, "validation": 1500}
    with (shared_data / "glue/stsb/train.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line, parse_float=name_of, parse_int=str) for line in file]
    assert list(splits["train"]) == rows


def test_all_formats_give_the_same_rows_with_the_used_columns_only(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text(lines(ROWS))
    (tmp_path / "two.json").write_text(json.dumps(ROWS, indent=1))
    (tmp_path / "three.csv").write_text('junk,sentence,label,idx\n0,NA,1,7\n0,"a, ""b""",0,8\n')
    (tmp_path / "four.tsv").write_text('junk\tsentence\tlabel\tidx\n0\tNA\t1\t7\n0\ta, "b"\t0\t8\n')
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "five.parquet")
    splits = load_splits(
        local(tmp_path, splits=Splits(train="one", eval=("two", "three", "four", "five"))), 0, Classification
    )
    expected = [{key: str(row[key]) for key in ("sentence", "label", "idx")} for row in ROWS]
    assert [list(rows) for rows in splits.values()] == [expected] * 5
    assert len({content_hash(rows) for rows in splits.values()}) == 1


def test_numbers_in_a_text_column_of_a_csv_file_stay_text(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        (tmp_path / f"{split}.csv").write_text("sentence,label\n007,x\n1e3,y\n")
    assert load_splits(local(tmp_path), 0, Classification)["train"]["sentence"][:] == ["007", "1e3"]


def test_a_changed_file_is_read_anew(folder: Path) -> None:
    before = content_hash(load_splits(local(folder), 0, Classification)["train"])
    (folder / "train.jsonl").write_text(lines(ROWS[::-1]))
    assert content_hash(load_splits(local(folder), 0, Classification)["train"]) != before


def test_generated_data_has_named_labels_and_is_the_same_every_time() -> None:
    data = Data(generated="acceptability")
    splits = load_splits(data, 0, Classification)
    assert list(splits) == ["train", "validation"]
    assert splits["train"].column_names == ["sentence", "label"]
    assert splits.reports["train"].names == ["unacceptable", "acceptable"]
    assert splits["train"]["label"][:2] == ["unacceptable", "acceptable"]
    assert content_hash(splits["train"]) == content_hash(load_splits(data, 5, Classification)["train"])


def test_limits_keep_the_first_rows_of_a_seeded_shuffle(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_text(lines([{"sentence": str(i), "label": 0} for i in range(50)]))
    data = local(tmp_path, limits=Limits(train=10, eval=100))
    first, again, other = (load_splits(data, seed, Classification) for seed in (1, 1, 2))
    texts = first["train"]["sentence"][:]
    assert len(set(texts)) == 10
    assert texts != [str(i) for i in range(10)]
    assert texts == again["train"]["sentence"][:] != other["train"]["sentence"][:]
    assert first["validation"]["sentence"][:] == [str(i) for i in range(50)]
    fewer = load_splits(local(tmp_path, limits=Limits(train=4)), 1, Classification)["train"]
    assert fewer["sentence"][:] == texts[:4]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train.jsonl", lines(ROWS) + '{"sentence": \n', r"train\.jsonl:3: the line is no JSON: Expecting value"),
        ("train.jsonl", lines(ROWS) + "[1]\n", r"train\.jsonl:3: the line must be a JSON object, got \[1\]"),
        ("train.jsonl", "", r"train\.jsonl: the file is empty"),
        ("train.csv", "sentence,label\n", r"train\.csv: the file has no rows, only the columns' names"),
        (
            "train.csv",
            "sentence,label\na,1\nb, c,1\n",
            r"train\.csv:3: the row has 3 fields, the header 2; put a field",
        ),
        ("train.csv", "sentence,label\na,1\n,1\n", r"train\.csv:3: 'sentence' is missing; fill it in"),
        ("train.csv", "sentence,label\na,1.5\nb,\n", r"train\.csv:3: 'label' is missing"),
        ("train.jsonl", lines([ROWS[0], {"sentence": None, "label": 1}]), r"train\.jsonl:2: 'sentence' is missing"),
        ("train.jsonl", lines([ROWS[0], {"sentence": "x"}]), r"train\.jsonl:2: 'label' is missing"),
        (
            "train.jsonl",
            lines([{"sentence": ["a"], "label": 1}]),
            r"train\.jsonl:1: 'sentence' must be text, got the list \['a'\]",
        ),
        ("train.jsonl", lines([{"sentense": "a", "label": 1}]), r"no column 'sentence' in .*did you mean 'sentense'\?"),
        ("train.parquet", "no parquet", r"train\.parquet: this is no Parquet file"),
    ],
)
def test_data_that_cannot_be_used_says_where_and_why(folder: Path, name: str, text: str, message: str) -> None:
    (folder / "train.jsonl").unlink()
    (folder / name).write_text(text)
    with pytest.raises(UserError, match=message):
        load_splits(local(folder), 0, Classification)


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub answers."""
    monkeypatch.setattr("autolora.model.hub.answers", lambda endpoint: True)


@pytest.mark.usefixtures("answering")
def test_the_hub_is_asked_for_the_recipes_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*args: Any, **options: Any) -> Any:
        asked.append((args, options))
        return datasets.DatasetDict(
            {name: datasets.Dataset.from_list(ROWS) for name in ("train", "validation_matched")}
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    data = Data(hub="nyu-mll/glue", config="mnli", revision="abc", splits=Splits(eval=("validation_matched",)))
    assert list(load_splits(data, 0, Classification)) == ["train", "validation_matched"]
    assert asked == [(("nyu-mll/glue", "mnli"), {"revision": "abc"})]
    with pytest.raises(
        UserError, match=r"no split 'validation' in data set 'nyu-mll/glue', .*it has: train, validation_matched"
    ):
        load_splits(Data(hub="nyu-mll/glue", config="mnli"), 0, Classification)


@pytest.mark.parametrize(
    ("hub", "message"),
    [
        ("theirs/secret", "is a data set of the hub, but .*/theirs/secret is there, too; write data.path"),
        ("pandas", "'pandas' is a kind of file, and no data set of the hub; write data.path"),
        ("json", "'json' is a kind of file"),
    ],
)
def test_what_the_library_would_read_in_the_current_folder_is_no_data_set_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: str, message: str
) -> None:
    (tmp_path / "theirs" / "secret").mkdir(parents=True)
    for file in (tmp_path / "train.jsonl", tmp_path / "theirs" / "secret" / "train.jsonl"):
        file.write_text('{"sentence": "secret", "label": 1}\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"data\.hub: .*{message}"):
        load_splits(Data(hub=hub, splits=Splits(eval=("train",))), 0, Classification)


@pytest.mark.usefixtures("answering")
def test_an_empty_split_of_the_hub_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = datasets.Dataset.from_dict({"sentence": [], "label": []})
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: {"train": empty, "validation": empty})
    with pytest.raises(UserError, match="split 'train' is empty"):
        load_splits(Data(hub="a/b"), 0, Classification)


@pytest.mark.parametrize(
    ("answers", "cause"),
    [(True, "no network at all"), (False, r"https://huggingface\.co does not answer, and the cache lacks it")],
)
def test_a_hub_that_cannot_be_reached_says_what_was_wanted_and_how_to_do_without(
    answers: bool, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autolora.model.hub.answers", lambda endpoint: answers)
    monkeypatch.setattr(constants, "ENDPOINT", "https://huggingface.co")

    def load_dataset(*args: Any, **options: Any) -> Any:
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(
        UserError,
        match=r"cannot fetch data set 'nyu-mll/glue', configuration cola, revision v1 of the Hugging Face hub: "
        rf"{cause}\. Where .* --data-root DIR reads local files instead \(DIR/glue/cola/train\.jsonl, …\)",
    ):
        load_splits(Data(hub="nyu-mll/glue", config="cola", revision="v1", path="glue/cola"), 0, Classification)


def test_the_content_hash_sees_every_value_and_the_order_of_the_rows() -> None:
    rows = [{"a": "x", "b": 1.5}, {"a": "y", "b": 2.5}]
    first = datasets.Dataset.from_list(rows)
    assert content_hash(first) == content_hash(
        datasets.Dataset.from_list([dict(reversed(row.items())) for row in rows])
    )
    changed = [
        rows[::-1],
        [{"a": "x", "b": 1.5000001}, rows[1]],
        rows[:1],
        [{"a": "x", "c": 1.5}, {"a": "y", "c": 2.5}],
    ]
    assert content_hash(first) not in {content_hash(datasets.Dataset.from_list(other)) for other in changed}


def test_the_content_hash_does_not_depend_on_how_the_rows_are_stored() -> None:
    whole = datasets.Dataset.from_dict({"a": list(range(30_000))})
    parts = datasets.concatenate_datasets([whole.select(range(12_345)), whole.select(range(12_345, 30_000))])
    assert content_hash(whole) == content_hash(parts)
    assert content_hash(whole) != content_hash(whole.select(range(29_999)))
