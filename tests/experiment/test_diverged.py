"""A training that diverges: the run has failed, says where and why, and is not gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from autolora.context.base import Context
from autolora.errors import RunError
from autolora.experiment.evaluate import evaluate
from autolora.experiment.line import run_stages
from autolora.experiment.search import search
from autolora.runs.store import Run
from autolora.training.checkpoint import load_checkpoint
from autolora.training.finite import not_finite
from tests.laboratory import of_an_earlier_version, tiny_run

RATE = 1e30  # no recipe may ask for it


def hot(place: str, run: Run, context: Context) -> tuple[Run, Context]:
    """The run with such a rate in its recipe, which its schema would refuse: so that training surely diverges."""
    path = place.split(".")

    def changed(model: Any, names: Sequence[str]) -> Any:
        if not names:
            return RATE
        return model.model_copy(update={names[0]: changed(getattr(model, names[0]), names[1:])})

    run.recipe = changed(run.recipe, path)
    return run, Context(run.recipe, show=False)


def fails(stage: Callable[[Run, Context], object], run: Run, context: Context, name: str) -> str:
    """What the run says of its failed stage, after both have been looked at."""
    with pytest.raises(RunError) as failure:
        stage(run, context)
    status = run.status()
    assert (status["state"], status["stages"][name]["state"]) == ("failed", "failed")
    assert status["stages"][name]["error"] == str(failure.value)
    for path in run.path.rglob("checkpoint.safetensors"):
        assert not_finite(load_checkpoint(path)[0]) is None
    for path in [*run.path.rglob("*.json"), *run.path.rglob("*.jsonl")]:
        for line in path.read_text(encoding="utf-8").splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    return str(failure.value)


@pytest.mark.parametrize("estimator", ["central_difference", "forward_difference", "first_order", "exact"])
def test_a_search(estimator: str, laboratory: Path, tmp_path: Path) -> None:
    made = tiny_run(laboratory, tmp_path, "autolora", "search.steps=6", f"search.estimator={estimator}")
    run, context = hot("search.weights.learning_rate", *made)
    message = fails(search, run, context, "search")
    assert message.startswith("search, step 1: the ")
    assert "the last finite loss was 0." in message
    assert "lower search.weights.learning_rate (it is 1e+30) or search.selection.learning_rate (it is 0.02)" in message
    assert not (run.path / "search" / "ranks.json").exists()


def test_a_search_on_one_level(laboratory: Path, tmp_path: Path) -> None:
    made = tiny_run(laboratory, tmp_path, "no-meta", "search.steps=6")
    said = fails(search, *hot("search.weights.learning_rate", *made), "search")
    assert "step 1: the norm of the weights is inf" in said


def test_selection_variables(laboratory: Path, tmp_path: Path) -> None:
    made = tiny_run(laboratory, tmp_path, "autolora", "search.steps=6")
    run, context = hot("search.selection.learning_rate", *made)
    assert "step 1: the norm of the selection variables is inf" in fails(search, run, context, "search")


@pytest.mark.parametrize("method", ["squeeze:budget=rank=1", "lora-grid:2"])
def test_searches_that_only_train(method: str, laboratory: Path, tmp_path: Path) -> None:
    made = tiny_run(laboratory, tmp_path, method, "retrain.steps=6")
    message = fails(search, *hot("retrain.weights.learning_rate", *made), "search")
    assert message.endswith(
        "step 1: the norm of the weights is inf (the last finite loss was "
        + message.split("was ")[1].split(")")[0]
        + "): the training has diverged; lower retrain.weights.learning_rate (it is 1e+30), or give its rate a longer "
        "warmup; and start a new run"
    )


@pytest.mark.parametrize("method", ["lora:2", "adalora:budget=rank=1", "full", "bitfit", "houlsby:2"])
def test_a_retraining(method: str, laboratory: Path, tmp_path: Path) -> None:
    made = tiny_run(laboratory, tmp_path, method, "retrain.steps=6")
    run, context = hot("method.learning_rate", *made)
    message = fails(run_stages, run, context, "retrain")
    assert message.startswith("retrain, step 1: the norm of the weights is inf (the last finite loss was 0.")
    assert "lower method.learning_rate (it is 1e+30)" in message
    assert not (run.path / "adapter").exists()


def test_what_is_finite_in_training_and_not_in_prediction(laboratory: Path, tmp_path: Path) -> None:
    run, context = tiny_run(laboratory, tmp_path, "lora:2", "retrain.steps=2")
    run_stages(run, context)
    weights = run.path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(weights)
    save_file({name: torch.full_like(tensor, 1e30) for name, tensor in tensors.items()}, weights)
    of_an_earlier_version(run.path)  # of a later one, the weights would not be read
    message = fails(evaluate, run, context, "eval")
    assert "eval validation: the model's logits are not finite, for example " in message
