"""A held-out part of the training split: whole inputs, drawn by the seed, in no other split."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from autolora.context.base import Context
from autolora.data.load import content_hash, load_splits
from autolora.data.splits import Splits
from autolora.errors import RecipeError, UserError
from autolora.experiment.fingerprints import fingerprints, shared
from autolora.experiment.overview import overview
from autolora.experiment.preflight import load_recipe
from autolora.experiment.prepare import prepare
from autolora.recipe.schema import Data
from autolora.registry import TASKS
from tests.laboratory import write_named_laboratory
from tests.methods.support import write_generation_laboratory

Write = Callable[[list[dict[str, Any]]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the rows of train.jsonl, and two of validation.jsonl."""

    def to_folder(rows: list[dict[str, Any]]) -> Path:
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        for name, some in {"train": rows, "validation": rows[:2]}.items():
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
        return folder

    return to_folder


def rows(count: int, inputs: int | None = None) -> list[dict[str, Any]]:
    """Sentences; every input comes `count / inputs` times."""
    return [{"sentence": f"text {i % (inputs or count)}", "label": f"class {i % 2}"} for i in range(count)]


def read(folder: Path, share: float = 0.1, task: str = "classification", seed: int = 0, **more: Any) -> Splits:
    splits = {"eval": ["held-out"], "held_out": share}
    data = Data.model_validate({"root": str(folder), "path": ".", "splits": splits, **more})
    return load_splits(data, seed, TASKS.load(task))


def texts(splits: Splits, name: str) -> list[str]:
    return list(splits[name]["sentence"])


def test_a_conversation_that_goes_on_stays_with_its_beginning() -> None:
    """All of the assistant's turns are learned: a longer one would teach the answer that is held out."""

    def said(*texts: str) -> list[dict[str, str]]:
        return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]

    unrolled = [said("hello", "hi", f"q{i}", f"a{i}") for i in range(20)]
    unrolled += [said("hello", "hi", f"q{i}", f"a{i}", "more", f"b{i}") for i in range(20)]
    unrolled += [said(f"other {i}", f"c{i}") for i in range(40)]
    data = Data.model_validate({"path": ".", "columns": ["messages"], "label": "messages"})
    table = datasets.Dataset.from_dict({"messages": [json.dumps(each) for each in unrolled]})
    bundles = TASKS.load("chat").bundles(table, data)
    assert bundles is not None
    assert [bundles[i] == bundles[20 + i] for i in range(20)] == [True] * 20
    assert len(set(bundles)) == 60, "those that share a greeting alone are not one bundle"


def test_a_question_that_is_trained_on_with_another_answer_is_the_same_input() -> None:
    data = Data.model_validate({"path": ".", "columns": ["messages"], "label": "messages"})
    found = []
    for answer in ("one", "two"):
        turns = [{"role": "user", "content": "how many?"}, {"role": "assistant", "content": answer}]
        table = datasets.Dataset.from_dict({"messages": [json.dumps(turns)]})
        found.append(fingerprints(table, data.columns, "messages", asked=TASKS.load("chat").questions(table, data)))
    same = shared(*found)
    assert same is not None
    assert (same.rows, same.other_label) == (1, 1)


def test_the_share_is_taken_out_of_the_training_split_and_both_keep_the_datas_order(write: Write) -> None:
    found = read(write(rows(60)), 0.1)
    assert list(found) == ["train", "held-out"], "the validation split is not read"
    assert [len(part) for part in found.values()] == [54, 6]
    for name in found:
        order = [int(text.split()[1]) for text in texts(found, name)]
        assert order == sorted(order)
    assert {*texts(found, "train"), *texts(found, "held-out")} == {f"text {i}" for i in range(60)}


def test_the_seed_draws_it_and_nothing_else_does(write: Write) -> None:
    folder = write(rows(60))
    first, again, other = read(folder), read(folder), read(folder, seed=1)
    assert texts(first, "held-out") == texts(again, "held-out")
    assert content_hash(first["train"]) == content_hash(again["train"])
    assert texts(first, "held-out") != texts(other, "held-out")


def test_an_input_is_held_out_with_all_its_rows(write: Write) -> None:
    found = read(write(rows(60, inputs=20)), 0.1)
    assert len(found["held-out"]) == 6
    assert set(texts(found, "train")).isdisjoint(texts(found, "held-out"))


@pytest.mark.parametrize("labelled", [["first", "second"], "only"])
def test_generation_holds_out_inputs_with_all_their_references(write: Write, labelled: object) -> None:
    made = [{"sentence": f"name[{i // 3}]", "label": labelled} for i in range(30)]
    found = read(write(made), 0.2, "generation")
    assert [len(part) for part in found.values()] == [24, 6]
    assert set(texts(found, "train")).isdisjoint(texts(found, "held-out"))


def test_the_limit_of_the_training_split_comes_first_and_that_of_evaluation_splits_holds(write: Write) -> None:
    folder = write(rows(60))
    limited = load_splits(
        Data.model_validate({"root": str(folder), "path": ".", "limits": {"train": 20}}),
        0,
        TASKS.load("classification"),
    )
    found = read(folder, 0.2, limits={"train": 20})
    assert [len(part) for part in found.values()] == [16, 4]
    assert sorted([*texts(found, "train"), *texts(found, "held-out")]) == sorted(texts(limited, "train"))
    kept = [text for text in texts(limited, "train") if text in texts(found, "train")]
    assert texts(found, "train") == kept, "what is left is in the order of the limit's shuffle"
    assert len(read(folder, 0.5, limits={"eval": 3})["held-out"]) == 3


def test_reports_count_each_part_and_know_where_its_rows_stand(write: Write) -> None:
    found = read(write(rows(60)), 0.1)
    train, held = found.reports["train"], found.reports["held-out"]
    assert (train.rows, held.rows) == (54, 6)
    for report, name in ((train, "train"), (held, "held-out")):
        counted = {label: seen.count for label, seen in report.labels.items()}
        assert sum(counted.values()) == report.rows
        assert counted == {label: list(found[name]["label"]).count(label) for label in counted}
        places = [report.places(row) for row in range(report.rows)]
        assert [int(place.rpartition(":")[2]) - 1 for place in places] == [
            int(t.split()[1]) for t in texts(found, name)
        ]


@pytest.mark.parametrize("share", [0.01, 0.999])
def test_a_share_that_leaves_nothing_of_either_is_refused(write: Write, share: float) -> None:
    with pytest.raises(
        UserError, match=r"data\.splits\.held_out: 0\.\d+ of 20 training rows .* both need at least one"
    ):
        read(write(rows(20)), share)


def test_one_input_cannot_be_divided(write: Write) -> None:
    with pytest.raises(UserError, match="with 1 different inputs holds out 20 and leaves 0"):
        read(write(rows(20, inputs=1)), 0.5)


def test_the_classes_are_those_of_the_whole_training_split(tmp_path: Path) -> None:
    """Thirty classes with two rows each: some are held out with all their rows."""
    place = write_named_laboratory(tmp_path / "laboratory", [f"class {i:02}" for i in range(30)])
    (place / "data" / "validation.jsonl").unlink()
    overrides = ["data.splits.eval=[held-out]", "data.splits.held_out=0.5"]
    context = Context(load_recipe(place / "tiny.yaml", overrides), show=False)
    prepare(context)
    assert context.task.names == [f"class {i:02}" for i in range(30)]
    assert len(context.splits.reports["train"].labels) < 30
    assert [len(context.examples(name)) for name in ("train", "held-out")] == [30, 30]
    found = overview(context)
    assert not [text for text in found.warnings if "as a training row" in text]


def test_held_out_inputs_of_generation_are_predicted_once_with_all_their_references(tmp_path: Path) -> None:
    place = tmp_path / "laboratory"
    write_generation_laboratory(place, "llama")
    file = place / "data" / "train.jsonl"
    there = [json.loads(text) for text in file.read_text().splitlines()]
    more = [{**row, "output": "b c"} for row in there]
    file.write_text("".join(json.dumps(row) + "\n" for row in [*there, *more]))
    overrides = ["data.splits.eval=[held-out]", "data.splits.held_out=0.25"]
    context = Context(load_recipe(place / "tiny.yaml", overrides), show=False)
    prepare(context)
    train, held = context.examples("train"), context.examples("held-out")
    assert all("prompt" in example for example in train)
    assert all("prompt" not in example and len(example["references"]) == 2 for example in held)
    assert 2 * len(held) == len(context.splits["held-out"])
    texts_of = {name: set(map(str, context.splits[name][context.recipe.data.columns[0]])) for name in context.splits}
    assert texts_of["train"].isdisjoint(texts_of["held-out"])
    assert (len(train), len(held)) == (10, 2)  # of seven inputs, until 3.5 rows are reached: two


def test_whoever_evaluates_elsewhere_may_hold_out_a_part_too(write: Write) -> None:
    folder = write(rows(60))
    data = Data.model_validate({"root": str(folder), "path": ".", "splits": {"held_out": 0.25}})
    found = load_splits(data, 0, TASKS.load("classification"))
    assert {name: len(part) for name, part in found.items()} == {"train": 45, "validation": 2, "held-out": 15}
    (alone,) = load_splits(data, 0, TASKS.load("classification"), only=["held-out"]).items()
    assert (alone[0], list(alone[1]["sentence"])) == ("held-out", texts(found, "held-out"))


def test_the_training_split_cannot_have_the_name_of_its_part(laboratory: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.splits\.train: 'held-out' is what data\.splits\.held_out makes"):
        load_recipe(laboratory / "tiny.yaml", ["data.splits.train=held-out", "data.splits.held_out=0.1"])
