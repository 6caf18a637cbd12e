"""Evaluation splits of another data set than the training split's: `data.evaluation`."""

from pathlib import Path
from typing import Any

import pytest

from autolora.data.files import is_local
from autolora.experiment.preflight import load_recipe
from autolora.recipe.schema import Data
from tests.chat_tokenizers import save_model
from tests.own_data import read, refusal, write

TRAIN = [{"text": "trained on", "label": "yes"}, {"text": "and this", "label": "no"}]
OTHER = [{"sentence": "of another set", "verdict": "no"}, {"sentence": "and one more", "verdict": "yes"}]


def recipe(folder: Path, laboratory: Path, other: Any = OTHER, **evaluation: Any) -> Path:
    settings = {"path": "other", "columns": ["sentence"], "label": "verdict", **evaluation}
    files = {"train.jsonl": TRAIN, "../other/test.jsonl": other}
    return write(folder, laboratory, files, splits={"train": "train", "eval": ["test"]}, evaluation=settings)


def test_its_rows_come_under_the_training_splits_names_and_its_labels_are_the_same_classes(
    tmp_path: Path, laboratory: Path
) -> None:
    splits = read(recipe(tmp_path, laboratory))
    assert splits["train"] == {"text": ["trained on", "and this"], "label": ["yes", "no"]}
    assert splits["test"] == {"text": ["of another set", "and one more"], "label": ["no", "yes"]}


def test_columns_that_are_not_named_are_called_as_in_the_training_split(tmp_path: Path, laboratory: Path) -> None:
    same = [{"text": "x", "label": "no"}]
    assert read(recipe(tmp_path, laboratory, same, columns=None, label=None))["test"] == {
        "text": ["x"],
        "label": ["no"],
    }


def test_a_part_held_out_of_the_training_split_stays_beside_it(tmp_path: Path, laboratory: Path) -> None:
    files = {
        "train.jsonl": [*TRAIN, *({"text": f"{i}", "label": "no"} for i in range(8))],
        "../other/test.jsonl": OTHER,
    }
    splits = {"train": "train", "eval": ["test", "held-out"], "held_out": 0.5}
    evaluation = {"path": "other", "columns": ["sentence"], "label": "verdict"}
    found = read(write(tmp_path, laboratory, files, splits=splits, evaluation=evaluation))
    assert {name: len(rows["text"]) for name, rows in found.items()} == {"train": 5, "test": 2, "held-out": 5}


def test_a_set_of_the_hubs_is_not_looked_for_beside_the_recipe(tmp_path: Path, laboratory: Path) -> None:
    """A file that happens to be called as its split would be evaluated on."""
    made = write(
        tmp_path,
        laboratory,
        {"train.jsonl": TRAIN, "../test.jsonl": OTHER},
        splits={"train": "train", "eval": ["test"]},
        evaluation={"hub": "someone/some-set", "columns": ["sentence"], "label": "verdict"},
    )
    elsewhere = load_recipe(made).data.source_of("test")
    assert (elsewhere.hub, elsewhere.root, is_local(elsewhere)) == ("someone/some-set", None, False)


def test_files_beside_a_set_of_the_hubs_have_no_folder_to_count_from() -> None:
    with pytest.raises(ValueError, match=r"evaluation\.path counts from data\.root, and data of the hub has none"):
        Data.model_validate({"hub": "a/b", "evaluation": {"path": "mine"}})
    Data.model_validate({"hub": "a/b", "root": "/x", "evaluation": {"path": "mine"}})


def test_without_labels_it_is_predicted(tmp_path: Path, laboratory: Path) -> None:
    rows = [{"sentence": "no verdict"}]
    assert read(recipe(tmp_path, laboratory, rows, label=None))["test"] == {"text": ["no verdict"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": ["sentense"]}, "data.evaluation.columns: "),
        ({"label": "verdikt", "columns": ["verdict"]}, "did you mean 'verdict'"),
        ({"path": "elsewhere"}, "data.evaluation.path: there is no data folder"),
        ({"path": "../other"}, "data.evaluation.path: must stay below data.root"),
        ({"columns": ["sentence", "verdict"]}, "1 in their order"),
        ({"path": None}, "one of hub or path"),
    ],
)
def test_what_is_wrong_with_it_is_said_of_it(
    changes: dict[str, Any], message: str, tmp_path: Path, laboratory: Path
) -> None:
    labelled = [*OTHER] if "label" not in changes else [{"verdict": "x", "label": "y"}]
    found = refusal(recipe(tmp_path, laboratory, labelled, **changes))
    assert message in found


def test_a_cell_that_is_missing_there_is_named_by_its_file(tmp_path: Path, laboratory: Path) -> None:
    assert "other/test.jsonl:2" in refusal(recipe(tmp_path, laboratory, [OTHER[0], {"sentence": "", "verdict": "no"}]))


def test_the_training_splits_file_is_refused_there_too(tmp_path: Path, laboratory: Path) -> None:
    path = write(
        tmp_path,
        laboratory,
        {"train.jsonl": TRAIN},
        splits={"train": "train", "eval": ["train.jsonl"]},
        evaluation={"path": "data"},
    )
    assert "is the training split's file, train.jsonl" in refusal(path)


def test_long_training_rows_are_left_out_with_their_blank_counted(
    tmp_path: Path, laboratory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": "12345", "label": "yes"}, {"text": "123456", "label": "yes"}, {"text": "1", "label": "no"}]
    files = {"train.jsonl": rows, "validation.jsonl": rows}
    path = write(tmp_path, laboratory, files, limits={"characters": 9})
    found = read(path)
    assert (found["train"]["text"], found["validation"]["text"]) == (["12345", "1"], ["12345", "123456", "1"])
    assert "1 of 3 training rows have more than 9 characters" in capsys.readouterr().err


def test_where_all_rows_are_too_long_the_recipe_is_refused(tmp_path: Path, laboratory: Path) -> None:
    path = write(tmp_path, laboratory, {"train.jsonl": TRAIN, "validation.jsonl": TRAIN}, limits={"characters": 3})
    assert "none of 2 training rows has 3 characters or fewer" in refusal(path)


def test_characters_of_whole_conversations_are_counted_once(tmp_path: Path) -> None:
    save_model(tmp_path / "laboratory" / "model", "llama-3")
    rows = [
        {"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": said}]}
        for said in ("1234", "12345")
    ]
    files = {"train.jsonl": rows, "validation.jsonl": rows}
    limits = {"characters": len("user" + "1" + "assistant" + "1234")}
    settings = {"columns": ["messages"], "label": "messages", "template": "plain", "limits": limits}
    found = read(write(tmp_path, tmp_path / "laboratory", files, "chat", **settings))
    assert (len(found["train"]["messages"]), len(found["validation"]["messages"])) == (1, 2)


def test_characters_of_conversations_are_those_of_their_texts_and_not_of_json(tmp_path: Path) -> None:
    save_model(tmp_path / "laboratory" / "model", "llama-3")
    rows = [{"prompt": 'a\n"b"', "completion": "1234"}, {"prompt": 'a\n"b"', "completion": "12345"}]
    files = {"train.jsonl": rows, "validation.jsonl": rows}
    settings = {"columns": ["prompt"], "label": "completion", "template": "plain", "limits": {"characters": 10}}
    found = read(write(tmp_path, tmp_path / "laboratory", files, "chat", **settings))
    assert (len(found["train"]["prompt"]), len(found["validation"]["prompt"])) == (1, 2)
