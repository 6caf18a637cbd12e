"""Faulty data ends a command with exit code 2 and one message, before a run's folder is made or a step is taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.support import served
from tests.own_data import write

TRAIN = [{"text": f"the {i}", "label": ["no", "yes"][i % 2]} for i in range(20)]


def files(tmp_path: Path, laboratory: Path, validation: object, **data: object) -> Path:
    lines = [validation] if isinstance(validation, dict) else validation
    assert isinstance(lines, list)
    return write(tmp_path, laboratory, {"train.jsonl": TRAIN, "validation.jsonl": lines}, **data)


@pytest.mark.parametrize("command", [["run"], ["search"], ["compare", "--methods", "lora:2", "--seeds", "0"]])
def test_an_unseen_class_leaves_nothing_behind(tmp_path: Path, laboratory: Path, command: list[str]) -> None:
    recipe = files(tmp_path, laboratory, {"text": "the 1", "label": "maybe"})
    done = served(command[0], str(recipe), *command[1:], cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "validation.jsonl:1: the label 'maybe' is none of the 2 labels: no, yes" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_too_long_an_evaluation_input_leaves_nothing_behind(tmp_path: Path, laboratory: Path) -> None:
    text = " ".join(["the cat sees the dog"] * 200)
    recipe = files(tmp_path, laboratory, {"text": text, "label": "no"}, max_length=600)
    done = served("run", str(recipe), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "data.max_length: 600 is above the model's 64 positions" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_metric_of_another_family_is_told_by_validate_with_its_line(tmp_path: Path, laboratory: Path) -> None:
    recipe = files(tmp_path, laboratory, {"text": "the 1", "label": "no"})
    recipe.write_text(recipe.read_text() + "eval:\n  metrics: [pearson]\n")
    done = served("recipes", "validate", str(recipe), cwd=tmp_path)
    assert done.returncode == 2
    line = recipe.read_text().splitlines().index("  metrics: [pearson]") + 1
    assert f"own.yaml:{line}: eval.metrics: 'pearson' is a metric of numbers" in done.stderr


def test_the_class_that_f1_is_about_is_said(tmp_path: Path, laboratory: Path) -> None:
    recipe = files(tmp_path, laboratory, [{"text": "the 1", "label": name} for name in ("no", "yes")])
    small = ["--set", "search.steps=2", "--set", "retrain.steps=2", "--set", "search.rank=2"]
    done = served("run", str(recipe), *small, "--set", "eval.metrics=[f1]", "--set", "eval.positive='no'", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "f1 is that of the class 'no'; eval.positive sets another" in done.stdout
    (manifest,) = (tmp_path / "runs").rglob("manifest.json")
    assert json.loads(manifest.read_text())["stages"]["eval"]["positive"] == "no"
