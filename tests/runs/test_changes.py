"""What may change in the recipe of a run that has been searched, and what may not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from autolora.errors import UserError
from autolora.recipe.schema import Recipe
from autolora.runs.changes import check_unchanged
from autolora.runs.store import Run
from tests.export.runs import make_run


@pytest.fixture
def searched(tmp_path: Path) -> Run:
    run = Run.open(make_run(tmp_path))
    with run.stage("search"):
        pass
    return run


def changed(recipe: Recipe, **sections: Any) -> Recipe:
    """The recipe with other values, sections deep."""
    return Recipe.model_validate(_merged(recipe.model_dump(), sections))


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    deep = {key: _merged(old[key], value) if isinstance(value, Mapping) else value for key, value in new.items()}
    return {**old, **deep}


REFUSED: dict[str, dict[str, Any]] = {
    "search.rank 4, not 2": {"search": {"rank": 2}},
    "search.weights.learning_rate 0.0001, not 0.5": {"search": {"weights": {"learning_rate": 0.5}}},
    "seed 0, not 7": {"seed": 7},
    "method.name autolora, not sigmoid": {"method": {"name": "sigmoid"}},
    "data.max_length 128, not 64": {"data": {"max_length": 64}},
    "data.limits.train None, not 10": {"data": {"limits": {"train": 10}}},
}
ALLOWED: dict[str, dict[str, Any]] = {
    "how often it is logged": {"search": {"log_every": 3, "checkpoint_every": 5}},
    "where the data lies": {"data": {"root": "elsewhere"}},
    "where the model lies": {"model": {"name": "other/base"}},
    "what it is evaluated on": {"data": {"splits": {"eval": ("test",)}, "limits": {"eval": 9}}},
    "how it is retrained": {"retrain": {"lora_alpha": 8.0}},
    "how it is measured": {"eval": {"metrics": ("accuracy", "f1")}},
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_the_search_depended_on_must_stay(searched: Run, said: str) -> None:
    with pytest.raises(UserError) as error:
        check_unchanged(searched, changed(searched.recipe, **REFUSED[said]))
    expected = f"{searched.path} was searched with {said}; start a new run with: autolora search"
    assert str(error.value) == expected


@pytest.mark.parametrize("what", ALLOWED)
def test_what_comes_after_the_search_may_change(searched: Run, what: str) -> None:
    other = changed(searched.recipe, **ALLOWED[what])
    assert other != searched.recipe
    check_unchanged(searched, other)


def test_before_the_search_has_ended_everything_may_change(tmp_path: Path) -> None:
    run = Run.open(make_run(tmp_path))
    check_unchanged(run, changed(run.recipe, **REFUSED["search.rank 4, not 2"]))
    with pytest.raises(KeyboardInterrupt), run.stage("search"):
        raise KeyboardInterrupt
    check_unchanged(run, changed(run.recipe, **REFUSED["search.rank 4, not 2"]))
