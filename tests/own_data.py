"""Files as people bring them, and a recipe for them: what is read of them through the public entry.

recipe = write(tmp_path, laboratory, {"train.csv": …, "validation.csv": …}, columns=["text"])
assert read(recipe)["train"]["text"] == […]
assert "train.csv:2" in refusal(recipe)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.preflight import load_recipe
from autolora.recipe.plain_yaml import dump

Content = str | bytes | Sequence[Mapping[str, Any]]


def write(
    folder: Path, laboratory: Path, files: Mapping[str, Content], task: str = "classification", **data: Any
) -> Path:
    """The path of a recipe over these files: text, bytes, or rows that are written as JSON Lines."""
    for name, content in files.items():
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else text_of(content).encode())
    data = {"path": "data", "columns": ["text"], **data}
    recipe = folder / "own.yaml"
    sections = {"task": task, "model": {"name": str(laboratory / "model")}, "data": data}
    recipe.write_text(dump(sections), encoding="utf-8")
    return recipe


def text_of(content: str | Sequence[Mapping[str, Any]]) -> str:
    """JSON Lines of rows; text as it is."""
    return content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)


def context(recipe: Path) -> Context:
    """The context of a recipe's run."""
    return Context(load_recipe(recipe), show=False)


def read(recipe: Path) -> dict[str, dict[str, list[Any]]]:
    """The columns of every split."""
    return {name: rows[:] for name, rows in context(recipe).splits.items()}


def refusal(recipe: Path) -> str:
    """What the recipe is refused with before anything is trained."""
    with pytest.raises(UserError) as error:
        encoded(recipe)
    return str(error.value)


def encoded(recipe: Path) -> dict[str, list[Any]]:
    """The examples of every split, encoded."""
    made = context(recipe)
    return {name: made.examples(name) for name in made.splits}


def classes(recipe: Path) -> tuple[list[str], dict[str, list[str]]]:
    """The names of the classes, and by split the name of every example's class."""
    made = context(recipe)
    names = list(made.task.head_config()["id2label"].values())
    return names, {name: [names[example["label"]] for example in made.examples(name)] for name in made.splits}
