"""Runs of every family over tiny models with real kinds of tokenizers, and the code of their cards, run."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from autolora.context.base import Context
from autolora.experiment.line import run_stages
from autolora.experiment.preflight import load_recipe
from autolora.recipe.method import parse_method
from autolora.runs.store import Run
from tests.model.architecture import write_checkpoint
from tests.model.architectures import ARCHITECTURES
from tests.model.recipes import write_recipe
from tests.model.trained import SENTENCES

STEPS = {"steps": 2, "batch_size": 4, "checkpoint_every": 10, "weights": {"learning_rate": 5e-2}}


def rows(family: str) -> list[dict[str, Any]]:
    if family == "tagging":
        words = [text.split() for text in SENTENCES]
        return [{"tokens": each, "label": ["B-X" if word.istitle() else "O" for word in each]} for each in words]
    if family == "generation":
        return [{"input": text, "output": " ".join(text.split()[::-1])} for text in SENTENCES]
    if family == "pairs":
        return [{"sentence": text, "other": "it rains", "label": "ab"[i % 2]} for i, text in enumerate(SENTENCES)]
    return [
        {"sentence": text, "label": float(i) if family == "regression" else "ab"[i % 2]}
        for i, text in enumerate(SENTENCES)
    ]


def ended(folder: Path, family: str, architecture: str, method: str = "lora:2", **sections: Any) -> tuple[Run, Context]:
    """A run that has come to its end."""
    model = folder / "model"
    if not model.is_dir():
        write_checkpoint(model, ARCHITECTURES[architecture])
    path = write_recipe(
        folder, family, model, **{"search": STEPS, "retrain": STEPS, "data": {"max_length": 48}, **sections}
    )
    for split, part in {"train": rows(family), "validation": rows(family)[:4]}.items():
        (folder / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return ran(path, folder / "runs", method)


def ran(path: Path, output: Path, method: str) -> tuple[Run, Context]:
    """A recipe's run by a method."""
    recipe = load_recipe(path)
    recipe = recipe.model_copy(update={"method": parse_method(method)})
    run, context = Run.create(output, recipe), Context(recipe, show=False)
    run_stages(run, context)
    return run, context


def code(card: Path) -> str:
    """The Python of a card."""
    (found,) = re.findall(r"^```python\n(.*?)^```$", card.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(found)


def predictions(folder: Path, inputs: list[Any] | None, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a card's code predicts, in a namespace of its own; inputs: in place of those that stand there."""
    tree = ast.parse(code(folder / "README.md"))
    if inputs is not None:
        (asked,) = [node for node in tree.body if isinstance(node, ast.Assign) and _sets_inputs(node)]
        asked.value = ast.parse(repr(inputs), mode="eval").body
    space: dict[str, Any] = {}
    with monkeypatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
        patch.chdir(folder)
        exec(compile(ast.fix_missing_locations(tree), "README.md", "exec"), space)
    assert said.getvalue().strip() == str(space["predictions"])
    return list(space["predictions"])


def _sets_inputs(node: ast.Assign) -> bool:
    return isinstance(node.targets[0], ast.Name) and node.targets[0].id == "inputs"


def asked(family: str) -> list[Any]:
    """The inputs of the evaluation split."""
    names = {"tagging": "tokens", "generation": "input"}
    if family == "pairs":
        return [(row["sentence"], row["other"]) for row in rows(family)[:4]]
    return [row[names.get(family, "sentence")] for row in rows(family)[:4]]
