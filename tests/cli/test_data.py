"""``autolora data``: what is read, as a person sees it and as a script does; and what a run says of it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.cli.support import Call, lines, read, served, succeed
from tests.laboratory import of_an_earlier_version

ROWS = [
    ("the cat", "no"),
    ("the dog sees the cat today with great care on a very long day", "yes"),
    ("bird [bold]\x1b[31m", "no"),
]


@pytest.fixture
def folder(tmp_path: Path, laboratory: Path) -> Path:
    """The laboratory's recipe and its model without weights, over data of its own."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "model").mkdir(exist_ok=True)
        shutil.copyfile(laboratory / "model" / name, tmp_path / "model" / name)
    shutil.copyfile(laboratory / "tiny.yaml", tmp_path / "tiny.yaml")
    (tmp_path / "data").mkdir()
    for split, rows in {"train": ROWS, "validation": ROWS[:1]}.items():
        text = "".join(json.dumps({"sentence": sentence, "label": label}) + "\n" for sentence, label in rows)
        (tmp_path / "data" / f"{split}.jsonl").write_text(text)
    return tmp_path


def squeezed(text: str) -> list[str]:
    """Lines, with one blank where there were several."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_it_shows_rows_labels_lengths_examples_and_warnings_and_writes_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    done = served("data", "tiny.yaml", "--set", "data.max_length=9", cwd=folder, COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(folder.rglob("*")) == before
    shown = squeezed(done.stdout)
    assert shown[0].startswith("tiny: classification, ")
    for line in (
        "train validation",
        "rows 3 1",
        "different inputs 3 1",
        "no 2 67% 1 100%",
        "yes 1 33% 0 0%",
        "data.max_length 9 9",
        "examples cut off 1 0",
        "split train, the first examples",
        "as tokens [CLS] the cat [SEP]",
        "- the class 'yes' is in no row of split 'validation'",
    ):
        assert line in shown
    assert r"bird [bold]\x1b[31m" in done.stdout
    assert "\x1b" not in done.stdout
    tables = done.stdout.partition("warnings")[0].splitlines()[1:]
    assert max(map(len, tables)) <= 80
    assert not [line for line in tables if line != line.rstrip()]


def test_json_is_the_record_with_the_examples(folder: Path) -> None:
    done = succeed("data", "tiny.yaml", "--json", "--set", "data.max_length=9", cwd=folder, by=served)
    found = json.loads(done.stdout)
    assert (found["columns"], found["label"], list(found["splits"])) == (["sentence"], "label", ["train", "validation"])
    train = found["splits"]["train"]
    assert train["labels"] == {"no": 2, "yes": 1}
    assert (train["tokens"]["longest"], train["tokens"]["cut_off"]) == (9, 1)
    assert [example["row"]["sentence"] for example in train["examples"]] == [sentence for sentence, _ in ROWS]
    assert train["examples"][0]["tokens"] == ["[CLS]", "the", "cat", "[SEP]"]
    place = folder / "data"
    assert found["warnings"] == [
        "the class 'yes' is in no row of split 'validation'",
        "1 of 1 rows of split 'validation' has the same sentence as a training row; first "
        f"{place}/validation.jsonl:1 and {place}/train.jsonl:1",
    ]


def test_many_splits_with_long_names_stay_within_the_line(folder: Path) -> None:
    names = ["validation", *(f"an-evaluation-split-of-its-own-number-{i}" for i in range(5))]
    for name in names[1:]:
        shutil.copyfile(folder / "data" / "validation.jsonl", folder / "data" / f"{name}.jsonl")
    splits = f"data.splits.eval=[{', '.join(names)}]"
    shown = served("data", "tiny.yaml", "--set", splits, cwd=folder, COLUMNS="80").stdout
    tables = shown.partition("warnings")[0].splitlines()[1:]
    assert max(map(len, tables)) <= 80
    assert len([line for line in squeezed(shown) if line.startswith("rows ")]) == 3  # three columns a table


def test_a_run_is_a_recipe_too_with_the_names_it_was_trained_with(call: Call, copied: Path) -> None:
    of_an_earlier_version(copied)
    (copied / "labels.json").write_text('{"names": ["1", "0"]}')
    before = sorted(copied.rglob("*"))
    code, out, _ = call("data", copied, "--json")
    assert (code, list(json.loads(out)["splits"]["train"]["labels"])) == (0, ["1", "0"])
    assert sorted(copied.rglob("*")) == before


def test_what_cannot_be_read_is_one_message(call: Call, folder: Path) -> None:
    with (folder / "data" / "train.jsonl").open("a") as file:
        file.write('{"sentence": "", "label": "no"}\n')
    code, out, err = call("data", folder / "tiny.yaml")
    assert (code, out) == (2, "")
    assert err.startswith(f"autolora: {folder}/data/train.jsonl:4: 'sentence' is missing; fill it in")
    code, _, err = call("data", folder / "tiny.yaml", "--data-root", "nowhere")
    assert (code, "there is no data folder" in err) == (2, True)


def test_a_run_begins_with_what_was_read(laboratory: Path, finished: Path, tmp_path: Path) -> None:
    record = read(finished / "manifest.json")["data"]
    assert record["splits"]["validation"]["tokens"]["examples"] == 23
    assert all("examples" not in split for split in record["splits"].values())
    sentences = [row["sentence"] for row in lines(laboratory / "data" / "train.jsonl")]
    assert not [sentence for sentence in sentences if sentence in json.dumps(record)]
    steps = ("--set", "search.steps=1", "--set", "search.checkpoint_every=1")
    err = succeed("search", "tiny.yaml", *steps, "--output", tmp_path, cwd=laboratory, by=served).stderr.splitlines()
    begun = next(i for i, line in enumerate(err) if line.startswith("run "))
    assert err[begun + 1] == "data: train 60 rows (label: 0 30, 1 30), validation 23 rows (label: 0 11, 1 12)"
    said = r"data: train has \d+(\.5)? tokens at the median, 15 at most of max_length 128; 0 of 60 examples are cut off"
    assert [line for line in err if re.fullmatch(said, line)] != []


def test_of_many_classes_a_run_names_the_first(call: Call, folder: Path, laboratory: Path) -> None:
    shutil.copyfile(laboratory / "model" / "model.safetensors", folder / "model" / "model.safetensors")
    rows = [{"sentence": f"the {i}", "label": f"class {i:02}"} for i in range(50)]
    for split in ("train", "validation"):
        (folder / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = call("search", folder / "tiny.yaml", "--set", "search.steps=1", "--output", folder / "runs")
    assert code == 0, err
    assert "data: train 50 rows (label: class 00 1, class 01 1, " in err
    assert ", class 07 1, … (50 in all)), validation 50 rows" in err
    assert "class 08" not in err
    shown = squeezed(call("data", folder / "tiny.yaml")[1])
    assert "… 10 more 10 10" in shown
