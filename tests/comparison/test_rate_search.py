"""A range of rates, searched: resumed to the same rates, told of failures, and refused where optuna is not there."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autolora.comparison import rate_search
from autolora.comparison.choices import tuning_table
from autolora.comparison.keys import trial_key
from autolora.comparison.plan import Trial
from autolora.comparison.rate_search import check_optuna, planned_search, search_rates
from autolora.comparison.sweep import Leg
from autolora.errors import UserError
from autolora.experiment.preflight import load_recipe
from autolora.recipe.method import parse_methods
from autolora.recipe.schema import Recipe
from autolora.recipe.tuning import RateRange
from autolora.runs.results import Result
from tests.comparison.support import cell

RATES = RateRange(1e-5, 1e-1, trials=14)
METHODS = parse_methods("lora:2,lora:4:learning_rate=1e-3")


class Runs:
    """Stands for folders of runs: what was run is kept, and its score is best at a rate of 1e-3."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, worst_above: float = math.inf) -> None:
        self.kept: dict[str, Result] = {}
        self.order: list[float] = []
        self.worst_above = worst_above
        monkeypatch.setattr(rate_search, "trials_of", self.trials_of)
        monkeypatch.setattr(rate_search, "read_result", lambda run: self.kept[run.key])

    def trials_of(self, wanted: Sequence[Recipe], root: Path, *, tuning: bool) -> list[Trial]:
        return [Trial(recipe, True, self.run(recipe), tuning) for recipe in wanted]

    def run(self, recipe: Recipe) -> Any:
        key = trial_key(recipe)
        return SimpleNamespace(key=key, stage_state=lambda stage: "success") if key in self.kept else None

    def run_all(self, trials: Sequence[Trial]) -> list[Any]:
        for trial in trials:
            rate = trial.recipe.method.learning_rate
            assert rate is not None
            assert trial.recipe.data.splits.eval == ("held-out",)
            if trial_key(trial.recipe) not in self.kept:
                self.order.append(rate)
                score = None if rate > self.worst_above else -abs(math.log10(rate) + 3)
                self.kept[trial_key(trial.recipe)] = cell("tiny", "lora:2", 9, score)
        return [self.run(trial.recipe) for trial in trials]


@pytest.fixture
def legs(laboratory: Path) -> list[Leg]:
    pytest.importorskip("optuna", reason="an extra")
    return [Leg((load_recipe(laboratory / "tiny.yaml"),))]


def test_a_search_that_was_cut_short_goes_on_to_the_same_rates(
    legs: list[Leg], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Runs(monkeypatch)
    (tuning,) = search_rates(legs, METHODS, [0], RATES, tmp_path, whole.run_all)  # type: ignore[arg-type]
    assert len(whole.order) == RATES.trials
    again = Runs(monkeypatch)
    short = RateRange(RATES.low, RATES.high, trials=5)
    search_rates(legs, METHODS, [0], short, tmp_path, again.run_all)  # type: ignore[arg-type]
    assert again.order == whole.order[:5]
    trials, (unknown,) = planned_search(legs, METHODS, [0], RATES, tmp_path)
    assert [trial.done for trial in trials] == [True] * 5 + [False] * 9
    assert not unknown.choices
    (resumed,) = search_rates(legs, METHODS, [0, 1], RATES, tmp_path, again.run_all)  # type: ignore[arg-type]
    assert again.order == whole.order
    assert resumed.choices == tuning.choices
    trials, (known,) = planned_search(legs, METHODS, [0], RATES, tmp_path)
    assert [trial.done for trial in trials] == [True] * RATES.trials
    assert known.choices == tuning.choices


def test_it_finds_what_is_best_and_says_what_it_tried(
    legs: list[Leg], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(monkeypatch, worst_above=1e-2)
    (tuning,) = search_rates(legs, METHODS, [0], RATES, tmp_path, runs.run_all)  # type: ignore[arg-type]
    (choice,) = tuning.choices.values()
    assert choice.rate == min(runs.order, key=lambda rate: abs(math.log10(rate) + 3) if rate <= 1e-2 else math.inf)
    assert any(rate > 1e-2 for rate in runs.order), "a trial that failed is among them"
    assert all(RATES.low <= rate <= RATES.high for rate in runs.order)
    (row,) = tuning_table(tuning.rows()).rows
    assert (row["range"], row["tried"], row["chosen"]) == ("log:1e-05..0.1", RATES.trials, f"{choice.rate:g}")


def test_a_rate_near_an_end_of_the_range_is_said() -> None:
    row = {"task": "t", "method": "lora:2", "seed": 9, "range": "log:1e-05..0.01", "tuning s": 1}
    for chosen, said in (("1.1e-05", "smallest"), ("0.0095", "largest"), ("0.0003", "")):
        notes = tuning_table([{**row, "chosen": chosen}]).notes[1:]
        assert [said in note for note in notes] == ([True] if said else [])


def test_without_optuna_it_is_refused_before_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'autolora\[optuna\]'"):
        check_optuna()
