"""What a data file is taken for, and that the recipe that is written for it is right."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from autolora.errors import RecipeError, UserError
from autolora.experiment.new_recipe import guess, recipe_text, write_recipe
from autolora.experiment.preflight import load_recipe

TEXTS = [f"the {word} sees the king again" for word in ("cat", "dog", "bird", "child", "teacher")] * 8


def json_lines(path: Path, **columns: Any) -> Path:
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def table(path: Path, encoding: str = "utf-8", **columns: Any) -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def conll(path: Path) -> Path:
    path.write_text("".join(f"{word}\tO\n" if word else "\n" for word in ["a", "b", ""] * 9), encoding="utf-8")
    return path


TURNS = [[{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}] for text in TEXTS]
WORDS = [text.split() for text in TEXTS]
FILES = [  # a file, and what it is taken for
    (lambda f: table(f / "a.tsv", sentence=TEXTS, label=[0, 1] * 20), "classification", ("sentence",), "label"),
    (
        lambda f: table(f / "b.csv", "utf-8-sig", text=TEXTS, label=["x", "y"] * 20),
        "classification",
        ("text",),
        "label",
    ),
    (
        lambda f: json_lines(f / "c.jsonl", sentence1=TEXTS, sentence2=TEXTS, label=[i / 8 for i in range(40)]),
        "regression",
        ("sentence1", "sentence2"),
        "label",
    ),
    (lambda f: json_lines(f / "d (1), e: f.jsonl", tokens=WORDS, ner_tags=WORDS), "tagging", ("tokens",), "ner_tags"),
    (lambda f: conll(f / "e.conll"), "tagging", ("tokens",), "ner_tags"),
    (lambda f: json_lines(f / "g.jsonl", messages=TURNS), "chat", ("messages",), "messages"),
    (
        lambda f: json_lines(f / "h.jsonl", instruction=TEXTS, input=TEXTS, output=TEXTS),
        "chat",
        ("instruction", "input"),
        "output",
    ),
    (
        lambda f: json_lines(f / "i.jsonl", prompt=TEXTS, completion=[f"{i} {t}" for i, t in enumerate(TEXTS)]),
        "generation",
        ("prompt",),
        "completion",
    ),
]


@pytest.mark.parametrize(("make", "task", "columns", "label"), FILES)
def test_a_file_is_taken_for_what_it_is_and_its_recipe_is_right(
    tmp_path: Path, make: Any, task: str, columns: tuple[str, ...], label: str
) -> None:
    file = make(tmp_path)
    found = guess(file)
    assert (found.task, found.columns, found.label) == (task, columns, label)
    assert found.why
    target = tmp_path / "recipe.yaml"
    write_recipe(target, file, found, "nobody/model")
    recipe = load_recipe(target)
    assert (recipe.task, recipe.data.columns, recipe.data.label) == (task, columns, label)
    assert recipe.data.splits.train == file.name
    assert recipe.data.splits.eval == ("held-out",)
    assert recipe.method.name == "squeeze"
    assert "#" in target.read_text(encoding="utf-8")


def test_columns_of_odd_names_are_named_and_not_guessed(tmp_path: Path) -> None:
    columns = {"My text: yes": TEXTS, "the label, they say": ["x", "y"] * 20, "id": range(40)}
    file = table(tmp_path / "bom, with spaces.csv", "utf-8-sig", **columns)
    assert (guess(file).task, guess(file).label) == ("", "")
    found = guess(file, label="the label, they say")
    assert (found.task, found.columns) == ("classification", ("My text: yes",))
    target = tmp_path / "recipe.yaml"
    write_recipe(target, file, found, "nobody/model")
    assert load_recipe(target).data.label == "the label, they say"
    with pytest.raises(UserError, match="there is no column 'lable'"):
        guess(file, label="lable")


def test_data_that_lies_elsewhere_and_a_file_to_score_on(tmp_path: Path) -> None:
    folder, other = tmp_path / "recipes here", tmp_path / "data"
    folder.mkdir()
    other.mkdir()
    train = table(other / "train.csv", text=TEXTS, label=["x", "y"] * 20)
    score = table(other / "score.csv", text=TEXTS[:8], label=["x", "y"] * 4)
    target = folder / "mine.yaml"
    write_recipe(target, train, guess(train), "nobody/model", evaluation=score)
    data = load_recipe(target).data
    assert (data.root, data.splits.train, data.splits.eval) == (str(other), "train.csv", ("score.csv",))


def test_nothing_is_overwritten_and_nothing_faulty_is_left(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", text=TEXTS, label=["x", "y"] * 20)
    target = tmp_path / "mine.yaml"
    target.write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="exists already"):
        write_recipe(target, file, guess(file), "nobody/model")
    assert target.read_text(encoding="utf-8") == "mine"
    with pytest.raises(RecipeError):
        write_recipe(tmp_path / "other.yaml", file, guess(file), "not a name of the hub!")
    assert not (tmp_path / "other.yaml").exists()


def test_the_text_is_yaml_with_its_values_as_they_were(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", text=TEXTS, label=["x", "y"] * 20)
    found = yaml.safe_load(recipe_text(tmp_path / "r.yaml", file, guess(file), "bundled:all-MiniLM-L6-v2"))
    assert found["model"]["head"] == ["classifier", "bert.pooler"]
    assert found["ranks"]["budget"] == {"rank": 1}
