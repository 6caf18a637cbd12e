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
    deep = {
        key: _merged(old.get(key) or {}, value) if isinstance(value, Mapping) else value for key, value in new.items()
    }
    return {**old, **deep}


REFUSED: dict[str, dict[str, Any]] = {
    "search.rank 4, not 2": {"search": {"rank": 2}},
    "search.weights.learning_rate 0.0001, not 0.5": {"search": {"weights": {"learning_rate": 0.5}}},
    "seed 0, not 7": {"seed": 7},
    "method.name autolora, not sigmoid": {"method": {"name": "sigmoid"}},
    "data.max_length 128, not 64": {"data": {"max_length": 64}},
    "data.limits.train None, not 10": {"data": {"limits": {"train": 10}}},
    "ranks.examples 250, not 9": {"ranks": {"examples": 9}},
}
ALLOWED: dict[str, dict[str, Any]] = {
    "how often it is logged": {"search": {"log_every": 3, "checkpoint_every": 5}},
    "where the data lies": {"data": {"root": "elsewhere"}},
    "where the model lies": {"model": {"name": "other/base"}},
    "what it is evaluated on": {"data": {"splits": {"eval": ("test",)}, "limits": {"eval": 9}}},
    "where the evaluation splits lie": {"data": {"evaluation": {"path": "other"}}},
    "by what results are split": {"data": {"category": "domain"}},
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


@pytest.fixture
def trained(tmp_path: Path) -> Run:
    """A run of a method that searches for nothing, after its training."""
    run = Run.open(make_run(tmp_path))
    run.recipe = changed(run.recipe, method={"name": "lora", "size": 4})
    with run.stage("retrain"):
        run.save_recipe()
    return Run.open(run.path)


TRAINED_WITH: dict[str, dict[str, Any]] = {
    "retrain.weights.learning_rate 0.0001, not 0.5": {"retrain": {"weights": {"learning_rate": 0.5}}},
    "seed 0, not 7": {"seed": 7},
    "method.size 4, not 8": {"method": {"size": 8}},
    "data.max_length 128, not 64": {"data": {"max_length": 64}},
    "loss.label_smoothing 0.0, not 0.1": {"loss": {"label_smoothing": 0.1}},
    "model.target_modules None, not ('query',)": {"model": {"target_modules": ("query",)}},
    "model.dtype auto, not bfloat16": {"model": {"dtype": "bfloat16"}},
    "search.lora_alpha 16.0, not 8.0": {"search": {"lora_alpha": 8.0}},
}
AFTER_TRAINING = {
    **{what: ALLOWED[what] for what in ALLOWED if what != "how it is retrained"},
    "how passes are made": {"model": {"attn_implementation": "sdpa", "torch_compile": True}},
}


@pytest.mark.parametrize("said", TRAINED_WITH)
def test_what_the_training_depended_on_must_stay_unless_it_is_trained_anew(trained: Run, said: str) -> None:
    other = changed(trained.recipe, **TRAINED_WITH[said])
    with pytest.raises(UserError) as error:
        check_unchanged(trained, other)
    expected = (
        f"{trained.path} was trained with {said}; train it anew with: autolora retrain {trained.path} --set …, or "
        "start a new run"
    )
    assert str(error.value) == expected
    check_unchanged(trained, other, anew=True)


@pytest.mark.parametrize("what", AFTER_TRAINING)
def test_what_comes_after_the_training_may_change(trained: Run, what: str) -> None:
    check_unchanged(trained, changed(trained.recipe, **AFTER_TRAINING[what]))
