"""The comparison of what two checkouts produced, on folders made by hand: it must notice what is not the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks.equality import compare

RECIPE = """name: ner-mini/tiny
data:
  root: somewhere
  columns:
  - tokens
method:
  name: lora
  size: 4
  learning_rate: null
search:
  steps: 12
seed: 0
"""
SCORES = """| task | method | metric | mean | other metrics |
| ---- | ------ | ------ | ---: | ------------- |
| tiny | lora:4 | f1     | 0.50 | {others} |
"""


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A run and a comparison that has it as a cell."""
    write_side(tmp_path / "before", time="20261125-101500")
    return tmp_path / "before"


@pytest.fixture
def after(tmp_path: Path, before: Path) -> Path:
    """The same at another time."""
    write_side(tmp_path / "after", time="20261126-090000")
    return tmp_path / "after"


def write_side(side: Path, time: str) -> None:
    run = side / "runs" / "ner-mini" / "tiny" / f"{time}-lora-4-0"
    manifest = {"created": time, "stages": {"retrain": {"seconds": float(len(str(side))), "steps": 30}}}
    write(run / "recipe.yaml", RECIPE)
    write(run / "status.json", json.dumps({"at": time}))
    write(run / "manifest.json", json.dumps(manifest))
    write(run / "search" / "ranks.json", json.dumps({"initial_rank": 8, "ranks": {"layer.0": 3, "layer.1": 5}}))
    write(run / "retrain" / "log.jsonl", '{"step": 8, "train_loss": 0.7}\n{"step": 16, "train_loss": NaN}\n')
    write(run / "predictions" / "test.jsonl", '{"index": 0, "prediction": ["B-x"]}\n')
    write(run / "metrics.md", "| f1 |\n| -: |\n| 0.5 |\n")
    write(run / "adapter" / "adapter_config.json", json.dumps({"r": 8}))
    save_file({"a": np.arange(4, dtype=np.float32), "b": np.ones(2, np.float32)}, run / "adapter" / "a.safetensors")
    comparison = side / "runs" / "comparisons" / "ner-mini" / "tiny"
    table = SCORES.format(others="accuracy 0.9000")
    write(comparison / "comparison.md", f"## Scores\n\n{table}")
    write(comparison / "scores.md", table)
    write(comparison / "scores.csv", "task,method,mean,other metrics\ntiny,lora:4,0.5,accuracy 0.9000\n")
    write(comparison / "costs.csv", f"seconds\n{time}\n")
    write(comparison / "cells.json", json.dumps([{"method": "lora:4", "score": 0.5, "run": time}]))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def change(side: Path, name: str, old: str, new: str) -> None:
    """Replace something in the one file of that name."""
    [path] = side.rglob(name)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_only_times_and_places_differ(before: Path, after: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(after, "recipe.yaml", "somewhere", "elsewhere")
    assert compare(before, after) == 0
    said = capsys.readouterr().out
    assert "equal      ner-mini/tiny lora:4 seed 0: adapter/a.safetensors" in said
    assert "equal      comparison of ner-mini/tiny: scores.csv" in said
    assert "differences: 0 with a reason, 0 without" in said


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("ranks.json", '"layer.1": 5', '"layer.1": 4', "ranks: layer.1: 5 → 4"),
        ("ranks.json", '"layer.1": 5', '"layer.1": 5, "layer.2": 1', "ranks: layer.2: only after: 1"),
        ("log.jsonl", "0.7", "0.70001", "retrain/log.jsonl: [0]/train_loss: 0.7 → 0.70001"),
        ("log.jsonl", "NaN}\n", 'NaN}\n{"step": 24}\n', "/length: 2 → 3"),
        ("test.jsonl", "B-x", "B-y", "predictions/test.jsonl: [0]/prediction[0]: 'B-x' → 'B-y'"),
        ("test.jsonl", "0,", "0, ", "bytes: not the same, though the values are"),
        ("test.jsonl", '"index": 0', '"index": 0, "more": 1', "[0]/more: only after: 1"),
        ("metrics.md", "0.5", "0.6", "metrics.md:  row[0] f1: '0.5' → '0.6'"),
        ("manifest.json", '"steps": 30', '"steps": 31', "manifest.json: /stages/retrain/steps: 30 → 31"),
        ("adapter_config.json", "}", ', "new": 1}', "adapter_config.json: /new: only after: 1"),
        ("recipe.yaml", "  steps: 12\n", "", "recipe.yaml: /search/steps: only before: '12'"),
        ("scores.csv", ",0.5,", ",0.6,", "scores.csv: [0]/mean: '0.5' → '0.6'"),
        ("scores.csv", "accuracy 0.9000", "accuracy 0.8000", "'accuracy 0.9000' → 'accuracy 0.8000'"),
        (
            "scores.csv",
            "accuracy 0.9000",
            "precision 0.4 recall 0.6 accuracy 0.8",
            "'accuracy 0.9000' → 'precision 0.4",
        ),
        ("cells.json", "0.5", "0.25", "cells.json: [0]/score: 0.5 → 0.25"),
    ],
)
def test_a_changed_value_is_noticed(
    before: Path, after: Path, capsys: pytest.CaptureFixture[str], name: str, old: str, new: str, said: str
) -> None:
    change(after, name, old, new)
    assert compare(before, after) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("DIFFERENT") and said in line for line in lines), lines


@pytest.mark.parametrize("spoil", ["value", "dtype", "name"])
def test_a_changed_tensor_is_noticed(before: Path, after: Path, capsys: pytest.CaptureFixture[str], spoil: str) -> None:
    [path] = after.rglob("a.safetensors")
    tensors = load_file(path)
    if spoil == "value":
        tensors["a"][3] = np.nextafter(tensors["a"][3], np.float32(9))
    elif spoil == "dtype":
        tensors["a"] = tensors["a"].astype(np.float64)
    else:
        tensors["c"] = tensors.pop("a")
    save_file(tensors, path)
    assert compare(before, after) == 1
    assert "DIFFERENT  ner-mini/tiny lora:4 seed 0: adapter/a.safetensors: a: " in capsys.readouterr().out


def test_a_run_or_file_that_is_gone_is_noticed(before: Path, after: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next(after.rglob("metrics.md")).unlink()
    assert compare(before, after) == 1
    assert "DIFFERENT  ner-mini/tiny lora:4 seed 0: metrics.md: the file: only before" in capsys.readouterr().out
    shutil.rmtree(after / "runs" / "ner-mini")
    assert compare(before, after) == 1
    assert "DIFFERENT  ner-mini/tiny lora:4 seed 0: all of it: only before" in capsys.readouterr().out


def test_two_empty_folders_show_nothing(tmp_path: Path) -> None:
    assert compare(tmp_path, tmp_path) == 1


def test_what_is_meant_to_differ_is_listed_with_its_reason(
    before: Path, after: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = "precision 0.4000, recall 0.6000, accuracy 0.9000"
    for name in ("scores.csv", "scores.md", "comparison.md"):
        change(after, name, "accuracy 0.9000", f'"{more}"' if name == "scores.csv" else more)
    change(after, "manifest.json", '"steps"', '"host": "a", "steps"')
    change(after, "ranks.json", '"initial_rank": 8', '"k": 8')
    [cells] = after.rglob("cells.json")
    cells.rename(cells.with_name("trials.json"))
    assert compare(before, after) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("fixed: a comparison of tagging" in line for line in lines) == 3
    assert any("manifest.json: /stages/retrain/host: only after: 'a' — a new field" in line for line in lines)
    assert "equal      comparison of ner-mini/tiny: cells.json" in lines
