"""Uniform LoRA cut down after its training: which components are kept, within which budget."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.line import evaluate, retrain, search
from autolora.lora.ranks import Ranks
from autolora.methods.base import method_of
from autolora.runs.store import Run
from tests.laboratory import flip_bit, tiny_run
from tests.methods.linked import BUDGET, LAYERS, built_on, layer_of, learned_run, spent
from tests.methods.support import loaded, logits


class Made(NamedTuple):
    """A uniform run that has been trained, and one that compresses it to AutoLoRA's budget."""

    uniform: Run
    run: Run
    context: Context


@pytest.fixture(scope="module")
def made(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    output = tmp_path_factory.mktemp("svd")
    uniform, context = tiny_run(laboratory, output, "lora:4")
    search(uniform, context)
    retrain(uniform, context)
    run, context = built_on(laboratory, output, "svd", uniform, learned_run(laboratory, output))
    retrain(run, context)
    return Made(uniform, run, context)


def copied(run: Run, output: Path) -> Run:
    """The same run beside those of another folder."""
    return Run.open(Path(shutil.copytree(run.path, output / "tiny" / run.path.name)))


def test_the_ranks_have_autoloras_sum(made: Made) -> None:
    ranks = Ranks.load(made.run.path / "retrain" / "ranks.json")
    assert list(ranks) == LAYERS
    assert ranks.total == BUDGET
    assert ranks.initial_rank == 4
    assert set(ranks.values()) != {2}


@pytest.mark.parametrize(("budget", "parameters"), [("rank=1", 256), ("parameters=200", 192), ("0.5", 512)])
def test_a_budget_of_its_own_needs_no_autolora(
    laboratory: Path, tmp_path: Path, made: Made, budget: str, parameters: int
) -> None:
    run, context = built_on(laboratory, tmp_path, f"svd:budget={budget}", copied(made.uniform, tmp_path))
    retrain(run, context)
    assert spent(run, "retrain")["trainable_parameters"] - spent(run, "retrain")["head_parameters"] == parameters


def test_a_uniform_adapter_that_is_not_what_was_written_is_refused_before_the_training(
    laboratory: Path, tmp_path: Path, made: Made
) -> None:
    uniform = copied(made.uniform, tmp_path)
    path = uniform.path / "adapter" / "adapter_model.safetensors"
    run, context = built_on(laboratory, tmp_path, "svd:budget=0.5", uniform)
    flip_bit(path, 0.9)
    with pytest.raises(UserError, match=rf"{path} is not what was written: .*anew with: autolora retrain "):
        retrain(run, context)
    assert run.stage_state("retrain") is None


def test_what_is_kept_is_the_best_approximation_of_each_layers_update(made: Made) -> None:
    before, after = loaded(made.uniform, made.context), loaded(made.run, made.context)
    ranks = Ranks.load(made.run.path / "retrain" / "ranks.json")
    kept, dropped = [], []
    for name, rank in ranks.items():
        update = delta(before, name)
        u, sigma, v = np.linalg.svd(update)
        best = (u[:, :rank] * sigma[:rank]) @ v[:rank]
        after_it = delta(after, name) if rank else np.zeros_like(update)
        assert np.allclose(after_it, best, atol=1e-5 * sigma[0])
        kept, dropped = [*kept, *sigma[:rank]], [*dropped, *sigma[rank:4]]
    assert min(kept) > max(dropped)  # one budget over all layers: all of them are of one size


def delta(model: nn.Module, name: str) -> np.ndarray:
    """What an adapter adds to a weight, from its factors."""
    layer = layer_of(model, name)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    return (b.double() @ a.double() * layer.scaling["default"]).detach().numpy()


def test_the_head_is_the_uniform_runs(made: Made) -> None:
    before, after, new = loaded(made.uniform, made.context), loaded(made.run, made.context), made.context.model()
    for name in made.context.head(new):
        trained, kept = (layer_of(model, name).modules_to_save["default"].state_dict() for model in (before, after))
        assert all(torch.equal(trained[key], kept[key]) for key in trained)
        assert not torch.equal(trained["weight"], new.get_submodule(name).state_dict()["weight"])


def test_the_saved_adapter_computes_what_the_compressed_model_does(made: Made, tmp_path: Path) -> None:
    model = made.context.model()
    compressed = method_of(made.run).adapt(model, made.context.head(model), made.context, 0).model.eval()
    assert torch.equal(logits(compressed, made.context), logits(loaded(made.run, made.context), made.context))
    whole = logits(loaded(made.uniform, made.context), made.context)
    assert not torch.equal(whole, logits(compressed, made.context))


def test_the_uniform_runs_training_is_on_the_bill(made: Made) -> None:
    paid, training = spent(made.run, "retrain"), spent(made.uniform, "retrain")
    for count in ("steps", "forward_passes", "backward_passes"):
        assert paid[count] == training[count] == 30
    assert paid["seconds"] > training["seconds"]
    assert paid["trainable_parameters"] - paid["head_parameters"] == BUDGET * (32 + 32)
    (row,) = evaluate(made.run, made.context)
    assert row["total rank"] == BUDGET


def test_a_run_without_the_uniform_one_is_refused(laboratory: Path, tmp_path: Path) -> None:
    run, context = built_on(laboratory, tmp_path, "svd:8", learned_run(laboratory, tmp_path))
    with pytest.raises(UserError, match="method 'svd' builds on a run of lora:8 with the same recipe and seed"):
        retrain(run, context)
