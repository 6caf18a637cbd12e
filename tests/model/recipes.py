"""Recipes of every family over a tiny model: ``context = made(tmp_path, "tagging", model_folder)``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autolora.context.base import Context
from autolora.experiment.preflight import load_recipe
from autolora.recipe.plain_yaml import dump

TEXTS = ["a", "a b", "b c d e f g h a b", "c c", "d e f", "h", "g f e d c", "a h a h"]
ROWS: dict[str, list[dict[str, Any]]] = {
    "classification": [{"sentence": text, "label": "ab"[i % 2]} for i, text in enumerate(TEXTS)],
    "regression": [{"sentence": text, "label": float(i)} for i, text in enumerate(TEXTS)],
    "tagging": [
        {"tokens": text.split(), "label": ["O" if word < "d" else "B-X" for word in text.split()]} for text in TEXTS
    ],
    "generation": [{"input": text, "output": text[::-1]} for text in TEXTS],
    "pairs": [{"sentence": text, "other": "b c", "label": "ab"[i % 2]} for i, text in enumerate(TEXTS)],
}
METRIC = {"regression": "pearson", "tagging": "entities", "generation": "bleu"}
STEPS = {"steps": 3, "batch_size": 4, "checkpoint_every": 10}


def write_recipe(folder: Path, task: str, model: Path | str, /, **sections: Any) -> Path:
    """A recipe file over the rows of a family ("pairs": classification of two columns); sections are merged in."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    rows = ROWS[task]
    for split, part in {"train": rows, "validation": rows[:7]}.items():
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    *columns, label = list(rows[0])
    family = "classification" if task == "pairs" else task
    recipe: dict[str, Any] = {
        "task": family,
        "model": {"name": str(model), "dtype": "float32"},
        "data": {"path": "data", "columns": columns, "label": label, "max_length": 24},
        "search": {**STEPS, "rank": 2, "estimator": "first_order"},
        "retrain": dict(STEPS),
        "eval": {"metrics": [METRIC.get(family, "accuracy")], "batch_size": 3},
    }
    if family == "generation":
        recipe["eval"]["generation"] = {"max_new_tokens": 6}
    for name, section in sections.items():
        recipe[name] = {**recipe.get(name, {}), **section} if isinstance(section, dict) else section
    path = folder / "recipe.yaml"
    path.write_text(dump(recipe), encoding="utf-8")
    return path


def made(folder: Path, task: str, model: Path | str, /, **sections: Any) -> Context:
    """The context of such a recipe."""
    return Context(load_recipe(write_recipe(folder, task, model, **sections)), show=False)
