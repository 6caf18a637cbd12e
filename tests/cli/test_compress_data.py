"""Compressing an adapter with data from the command line: where the recipe comes from, and what is shown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from autolora.cli.compress_data import Asked, with_data
from autolora.cli.options import Options
from autolora.errors import FAULT, RecipeError, UserError
from autolora.experiment.data_recipe import data_recipe
from autolora.experiment.line import retrain, search
from autolora.experiment.stored_adapter import read_stored
from autolora.lora.stored import TENSORS
from tests.cli.support import Call
from tests.experiment.adapters import NAMES, brought, edit_config
from tests.laboratory import tiny_run
from tests.own_data import text_of

NAMED = ("data.labels=[a, b]", "ranks.examples=6", "model.dtype=float32")


def test_a_recipe_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapter, _ = brought(tmp_path, "classification")
    asked = Asked(budget="0.25", recipe=str(tmp_path / "recipe.yaml"), heal=2)
    with_data(adapter, asked, tmp_path / "small", Options(overrides=("retrain.batch_size=2",)))
    shown = capsys.readouterr().out
    record = json.loads((tmp_path / "small" / "compressed.json").read_text())
    for words in ("as it was", "compressed", "healed, 2 steps", "accuracy", "640", str(record["parameters"]["after"])):
        assert words in shown
    assert "predicted rise of the loss, before any healing:" in shown
    with_data(adapter, asked, tmp_path / "again", Options(overrides=("retrain.batch_size=2",)))
    assert json.loads((tmp_path / "again" / "compressed.json").read_text()) == record


def test_a_file_is_enough_where_the_adapter_says_the_rest(tmp_path: Path) -> None:
    adapter, _ = brought(tmp_path, "classification")
    file = tmp_path / "data" / "train.jsonl"
    asked = Asked(tolerance=0.5, data=file, evaluation=tmp_path / "data" / "validation.jsonl")
    with pytest.raises(UserError, match=r"data\.labels: neither the adapter nor the data says"):
        with_data(adapter, asked, tmp_path / "small", Options())
    recipe = data_recipe(read_stored(adapter), file, overrides=NAMED)
    assert (recipe.task, recipe.data.columns, recipe.data.label) == ("classification", ("sentence",), "label")
    assert (recipe.data.splits.eval, recipe.data.splits.held_out) == (("held-out",), 0.2)
    assert recipe.model.name == str(tmp_path / "model")
    with_data(adapter, Asked(budget="rank=1", data=file, score="fisher"), tmp_path / "small", Options(overrides=NAMED))
    record = json.loads((tmp_path / "small" / "compressed.json").read_text())
    assert (record["recipe"], record["examples"], record["budget"]) == ("train", 6, {"rank": 1})  # of 8, 2 are scored


@pytest.mark.parametrize("name", ["regression", "tagging", "gpt2", "t5"])
def test_the_task_is_the_adapters(name: str, tmp_path: Path) -> None:
    adapter, context = brought(tmp_path, name)
    file, own = tmp_path / "data" / "train.jsonl", context.recipe
    labels = (f"data.labels=[{', '.join(NAMES[name])}]",) if name in NAMES else ()
    found = data_recipe(read_stored(adapter), file, evaluation=tmp_path / "data" / "validation.jsonl", overrides=labels)
    assert (found.task, found.data.columns, found.data.label) == (own.task, own.data.columns, own.data.label)
    assert (found.data.splits.train, found.data.splits.eval) == ("train.jsonl", ("validation.jsonl",))


UNSAID: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no such task": ({"task_type": "FEATURE_EXTRACTION"}, {}, "task_type is 'FEATURE_EXTRACTION', which does not say"),
    "no task": ({"task_type": None}, {}, "name the task with --task"),
    "no model": ({"base_model_name_or_path": None}, {}, "names no base model; give it with --model"),
    "no usual column": ({}, {"body": "a", "label": "a"}, "--columns: {file} has none that is usual for classification"),
    "two usual columns": (
        {},
        {"text": "a", "sentence": "a", "label": "a"},
        "--columns: {file} has several columns that are usual for classification (text, sentence); name what is meant, "
        "of: text, sentence, label",
    ),
    "no usual label": ({}, {"text": "a", "class": "a"}, "--label: {file} has none that is usual for classification"),
}


@pytest.mark.parametrize("what", UNSAID)
def test_what_nobody_says_is_refused(what: str, tmp_path: Path) -> None:
    entries, row, message = UNSAID[what]
    adapter, _ = brought(tmp_path, "classification")
    edit_config(adapter, **entries)
    file = tmp_path / "mine.jsonl"
    file.write_text(text_of([row or {"text": "a", "label": "a"}] * 4), encoding="utf-8")
    with pytest.raises(UserError) as error:
        data_recipe(read_stored(adapter), file)
    assert message.format(file=file) in str(error.value)


def test_columns_are_named(tmp_path: Path) -> None:
    adapter, _ = brought(tmp_path, "classification")
    (tmp_path / "mine").mkdir()
    file = tmp_path / "mine" / "rows.csv"
    file.write_text("body,class\na b,a\nb c,b\n", encoding="utf-8")
    stored = read_stored(adapter)
    found = data_recipe(stored, file, columns=["body"], label="class")
    assert (found.data.columns, found.data.label, found.name) == (("body",), "class", "rows")
    other = tmp_path / "data" / "validation.jsonl"
    with pytest.raises(RecipeError, match=r"no column 'body' in .*validation\.jsonl"):
        data_recipe(stored, file, columns=["body"], label="class", evaluation=other)


def test_a_run_says_itself_which_data_it_is_about(laboratory: Path, tmp_path: Path) -> None:
    run, context = tiny_run(laboratory, tmp_path / "runs", "lora:4", "retrain.steps=6")
    for stage in (search, retrain):
        stage(run, context)
    with_data(run.path, Asked(budget="0.5", score="fisher"), tmp_path / "small", Options())
    record = json.loads((tmp_path / "small" / "compressed.json").read_text())
    assert (record["recipe"], record["seed"], record["examples"]) == ("tiny", 3, 60)
    file, kind = laboratory / "data" / "train.jsonl", Options(overrides=("data.limits.train=20",))
    with_data(run.path, Asked(budget="0.5", data=file), tmp_path / "of file", kind)
    record = json.loads((tmp_path / "of file" / "compressed.json").read_text())
    assert (record["recipe"], record["examples"]) == ("train", 16)  # of 20, a fifth is scored
    shutil.copytree(run.path / "adapter", tmp_path / "alone")
    with pytest.raises(UserError, match="is no run, whose recipe would say"):
        with_data(tmp_path / "alone", Asked(budget="0.5", score="fisher"), tmp_path / "other", Options())


REFUSED: dict[str, tuple[Asked, str]] = {
    "no size": (Asked(heal=3), "how large may it be? give --budget"),
    "two sizes": (Asked(budget="0.5", tolerance=0.1), "--budget and --tolerance exclude each other"),
    "a strange size": (Asked(budget="fracton=0.5"), "there is no budget 'fracton'; did you mean 'fraction'"),
    "two sources": (Asked(budget="0.5", recipe="r", data=Path("d")), "--recipe and --data exclude each other"),
    "a column of nothing": (Asked(budget="0.5", recipe="r", label="x"), "--label is about the file of --data"),
    "no data": (Asked(budget="0.5", heal=1), "is no run, whose recipe would say which data it is about"),
    "no such file": (Asked(budget="0.5", data=Path("nowhere.csv")), "--data: nowhere.csv is no file"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_contradicts_itself_is_refused(what: str, tmp_path: Path) -> None:
    adapter, _ = brought(tmp_path, "classification")
    asked, message = REFUSED[what]
    with pytest.raises(UserError) as error:
        with_data(adapter, asked, tmp_path / "small", Options())
    assert message in str(error.value)
    assert not (tmp_path / "small").exists()


def test_data_is_wanted_where_something_needs_it() -> None:
    assert not Asked(budget="0.5").wants_data
    assert not Asked(budget="0.5", score="spectrum").wants_data
    for asked in (Asked(tolerance=0.1), Asked(heal=1), Asked(score="fisher"), Asked(recipe="r"), Asked(data=Path("d"))):
        assert asked.wants_data


def test_a_model_that_has_moved_is_named(tmp_path: Path) -> None:
    adapter, _ = brought(tmp_path, "regression")
    shutil.move(tmp_path / "model", tmp_path / "moved")
    asked = Asked(budget="0.5", data=tmp_path / "data" / "train.jsonl")
    with pytest.raises(UserError):
        with_data(adapter, asked, tmp_path / "small", Options())
    with_data(adapter, asked, tmp_path / "small", Options(model=str(tmp_path / "moved")))
    assert (tmp_path / "small" / "adapter_model.safetensors").is_file()


def test_the_command_compresses_with_data(call: Call, laboratory: Path, tmp_path: Path) -> None:
    run, context = tiny_run(laboratory, tmp_path / "runs", "lora:4", "retrain.steps=6")
    for stage in (search, retrain):
        stage(run, context)
    small = tmp_path / "small"
    code, out, err = call("compress", run.path, "--budget", "0.5", "--heal", "2", "--output", small)
    assert code == 0, err
    assert "healed, 2 steps" in out
    assert f"wrote {small}" in err
    code, _, err = call("compress", small, "--budget", "1", "--uniform", "--output", tmp_path / "padded")
    assert code == 0, err
    said = ("--score", "fisher", "--budget", "fraction=0.5", "--heal", "2")
    code, _, err = call("compress", run.path, *said, "--output", tmp_path / "same")
    assert code == 0, err
    assert (small / TENSORS).read_bytes() == (tmp_path / "same" / TENSORS).read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--budget", "0.5", "--set", "seed=1"), "--set is about data, of which nothing else is said"),
        (("--budget", "0.5", "--label", "x"), "--label is about data"),
        (("--budget", "keep=0.9", "--score", "fisher"), "--budget keep=0.9 is a share of the energy"),
        (("--budget", "0.5", "--score", "fisher", "--uniform"), "--dry-run and --uniform are for adapters as they are"),
        (("--tolerance", "0.1", "--dry-run"), "--dry-run and --uniform are for adapters as they are"),
    ],
)
def test_a_command_line_that_contradicts_itself_is_refused(
    words: tuple[str, ...], message: str, call: Call, tmp_path: Path
) -> None:
    adapter, _ = brought(tmp_path, "classification")
    code, out, err = call("compress", adapter, *words, "--output", tmp_path / "small")
    assert (code, out) == (FAULT, "")
    assert message in err
    assert not (tmp_path / "small").exists()
