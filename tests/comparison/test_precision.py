"""The cells of a comparison are all computed in one precision, which is decided before the first."""

from __future__ import annotations

from pathlib import Path

import pytest

from autolora.comparison.execute import execute
from autolora.comparison.keys import trial_key
from autolora.comparison.plan import plan
from autolora.comparison.precision import settle
from autolora.context.base import Context
from autolora.experiment.preflight import load_recipe
from autolora.recipe.method import parse_methods
from autolora.recipe.schema import Recipe
from autolora.runs.manifest import recorded_precision
from autolora.training import compute

SHORT = ("retrain.steps=2", "search.steps=2")


def auto(laboratory: Path, *overrides: str) -> Recipe:
    return load_recipe(laboratory / "tiny.yaml", ["model.dtype=auto", *SHORT, *overrides])


@pytest.fixture(params=[False, True], ids=["float32", "bfloat16"])
def half(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the process that starts the others is on a CPU with bfloat16; they look for themselves."""
    monkeypatch.setattr(compute, "_computes_in_bfloat16", lambda device: request.param)
    return bool(request.param)


def test_cells_have_the_precision_that_was_decided_and_the_recipe_as_it_was(
    laboratory: Path, tmp_path: Path, half: bool
) -> None:
    recipe, expected = auto(laboratory), "bfloat16" if half else "float32"
    methods = parse_methods("lora:1,lora:2")
    trials = plan([recipe], methods, [0], tmp_path)
    assert settle(trials) == {"tiny": expected}
    for run in execute(trials, tmp_path):
        assert run.stage_state("eval") == "success"
        stages = run.manifest()["stages"]
        assert {stages[stage]["device"]["precision"] for stage in ("retrain", "eval")} == {expected}
        assert run.recipe.model.dtype == "auto"
    again = plan([recipe], methods, [0], tmp_path)
    assert [trial.done for trial in again] == [True, True]
    assert [trial_key(trial.recipe) for trial in again] == [trial_key(trial.recipe) for trial in trials]


def test_what_a_recipe_says_holds_on_every_machine(laboratory: Path, tmp_path: Path, half: bool) -> None:
    for dtype in ("float32", "bfloat16"):
        trials = plan([auto(laboratory, f"model.dtype={dtype}")], parse_methods("lora:1"), [0], tmp_path)
        assert settle(trials) == {"tiny": dtype}


def test_a_comparison_that_goes_on_elsewhere_keeps_its_precision(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = auto(laboratory)
    monkeypatch.setattr(compute, "_computes_in_bfloat16", lambda device: True)
    execute(plan([recipe], parse_methods("lora:1"), [0], tmp_path), tmp_path)
    monkeypatch.setattr(compute, "_computes_in_bfloat16", lambda device: False)
    assert settle(plan([recipe], parse_methods("lora:1,lora:2"), [0, 1], tmp_path)) == {"tiny": "bfloat16"}
    assert settle(plan([recipe], parse_methods("lora:2"), [1], tmp_path)) == {"tiny": "float32"}


def test_records_of_earlier_versions_tell_it_by_the_device() -> None:
    assert recorded_precision({"type": "cuda", "name": "x"}) == "bfloat16"
    assert recorded_precision({"type": "cpu", "name": "x", "threads": 2}) == "float32"
    assert recorded_precision({"type": "cpu", "precision": "bfloat16"}) == "bfloat16"


def test_the_precision_of_a_context_is_the_machines_where_nobody_says_it(laboratory: Path, half: bool) -> None:
    assert Context(auto(laboratory), show=False).compute.bfloat16 == half
