"""Labels of methods have colons, equals signs and underscores, and are long: safe wherever they are written."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from autolora.comparison.defaults import PAPER, default_methods
from autolora.comparison.outcome import outcome, write_outcome
from autolora.comparison.plan import Trial
from autolora.errors import UserError
from autolora.experiment.preflight import load_recipe
from autolora.recipe.method import label, parse_method
from autolora.recipe.schema import Recipe
from autolora.report.blocks import Names
from autolora.runs.folders import LONGEST
from autolora.runs.store import Run
from autolora.tables import render
from tests.comparison.support import cells
from tests.comparison.test_estimate import SQUEEZING

LABELS = [
    "squeeze:k=2:at=0.75:budget=parameters=294912:learning_rate=0.0003",
    "squeeze:k=2:at=0.75:budget=parameters=294913:learning_rate=0.0003",
    "lora-matched:budget=tolerance=0.02",
    "lora:8",
]


@pytest.fixture
def recipe(laboratory: Path) -> Recipe:
    return load_recipe(laboratory / "tiny.yaml")


@pytest.fixture
def squeezing(laboratory: Path) -> Recipe:
    return load_recipe(laboratory / "tiny.yaml", SQUEEZING)


def test_the_tables_have_them_letter_for_letter(tmp_path: Path) -> None:
    results = cells({("glue/cola", method): [0.5, 0.25 * i, 0.125] for i, method in enumerate(LABELS)})
    write_outcome(outcome(results), results, tmp_path)
    rows = list(csv.DictReader((tmp_path / "scores.csv").open(encoding="utf-8")))
    assert [row["method"] for row in rows] == LABELS
    assert [row["method"] for row in json.loads((tmp_path / "scores.json").read_text())] == LABELS
    lines = (tmp_path / "scores.md").read_text().splitlines()
    assert [line.split("|")[2].strip() for line in lines[2:]] == LABELS
    assert "learning\\_rate=0.0003" in (tmp_path / "table.tex").read_text()
    (differences,) = (table for table in outcome(results) if table.stem == "differences")
    assert {row["baseline"] for row in differences.rows} == {"lora-matched:budget=tolerance=0.02"}
    assert "Differences to lora-matched:budget=tolerance=0.02, " in differences.caption


@pytest.mark.parametrize("width", [60, 200])
def test_a_terminal_shows_them_whole_however_narrow_it_is(width: int) -> None:
    rows = [{"method": method, "mean": 0.5 + i} for i, method in enumerate(LABELS)]
    console = Console(width=width, file=io.StringIO())
    console.print(render(rows, "Scores", width))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "…" not in shown
    cells_of_method = [re.split("[│┃]", line)[1:-1] for line in shown.splitlines() if line.startswith(("│", "┃"))]
    folded: list[str] = []  # a cell with a number beside it begins a row
    for method, mean in cells_of_method[1:]:
        if mean.strip():
            folded.append("")
        folded[-1] += method.strip()
    assert folded == LABELS
    assert (len(cells_of_method) > len(LABELS) + 1) == (width == 60)


def test_a_runs_folder_is_named_for_its_method_within_bounds(recipe: Recipe, tmp_path: Path) -> None:
    names = []
    for word in (LABELS[0], LABELS[1], "squeeze:budget=fraction=0.25", "lora:4"):
        run = Run.create(tmp_path, recipe.model_copy(update={"method": parse_method(word)}))
        names.append(run.path.name)
        assert re.fullmatch(r"[A-Za-z0-9.-]+", run.path.name)
        assert label(Run.open(run.path).recipe.method) == word
    assert len(set(names)) == 4
    assert "-squeeze-k-2-at-0.75-budget-parameters-294912-learning-rate-0.0003-0" in names[0]
    assert names[2].endswith("-squeeze-budget-fraction-0.25-0")
    long = parse_method("lora:4").model_copy(update={"name": "m" * 300})
    run = Run.create(tmp_path, recipe.model_copy(update={"method": long}))
    assert len(run.path.name) < LONGEST + 30


def test_figures_and_anchors_have_names_of_their_own_within_bounds() -> None:
    names = Names()
    found = [names.new("glue/cola", method, "ranks") for method in (*LABELS, "m" * 300, "m" * 301)]
    assert len(set(found)) == len(found)
    assert all(re.fullmatch(r"[a-z0-9-]{1,125}", name) for name in found)


def test_methods_of_a_size_of_their_own_need_no_search_but_for_a_tolerance(recipe: Recipe) -> None:
    def needs(word: str) -> list[str]:
        trial = Trial(recipe.model_copy(update={"method": parse_method(word)}), True, None)
        return [label(needed.method) for needed in trial.needs]

    assert needs("lora-matched") == ["autolora"]
    for method in ("lora-matched", "random", "adalora"):
        for budget in ("rank=1", "fraction=0.5", "parameters=9216"):
            assert needs(f"{method}:budget={budget}") == []
        assert needs(f"{method}:budget=tolerance=0.1") == ["squeeze:budget=tolerance=0.1"]
    assert needs("svd:budget=rank=1") == ["lora:4"]
    assert needs("squeeze:budget=tolerance=0.1") == []


def test_the_default_methods_are_those_of_the_recipes_kind(recipe: Recipe, squeezing: Recipe) -> None:
    assert default_methods([recipe, recipe]) == PAPER
    assert default_methods([recipe], "autolora") == "autolora"
    assert default_methods([squeezing]) == "squeeze,squeeze-uniform,lora-matched,lora:4"
    larger = squeezing.model_copy(update={"search": squeezing.search.model_copy(update={"rank": 8})})
    assert default_methods([larger, squeezing]) == "squeeze,squeeze-uniform,lora-matched,lora:4,lora:8"
    with pytest.raises(UserError, match=r"--methods: tiny has search\.estimator: none and other learns"):
        default_methods([squeezing, recipe.model_copy(update={"name": "other"})])
