"""Uniform LoRA compressed after its training: the share that meets a budget, and what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.line import evaluate, retrain, search
from autolora.lora.ranks import Ranks
from autolora.methods.base import method_of
from autolora.methods.svd import share_for
from autolora.runs.store import Run
from tests.laboratory import tiny_run
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


def ranks_at(share: float, energies: dict[str, Tensor]) -> dict[str, int]:
    """The least ranks that hold a share, by the definition."""
    return {name: next(r for r, held in enumerate(e.tolist(), 1) if held >= share) for name, e in energies.items()}


def drawn(layers: int, components: int, seed: int) -> dict[str, Tensor]:
    squares = torch.rand(layers, components, generator=torch.Generator().manual_seed(seed)).sort(descending=True).values
    shares = squares.double().cumsum(1) / squares.double().sum(1, keepdim=True)
    shares[:, -1] = 1.0
    return {f"layer.{i}": share for i, share in enumerate(shares)}


@pytest.mark.parametrize("seed", range(5))
def test_the_share_gives_every_budget_exactly(seed: int) -> None:
    energies = drawn(5, 4, seed)
    for budget in range(5, 21):
        share = share_for(energies, budget)
        assert sum(ranks_at(share, energies).values()) == budget
        below_one = [held for energy in energies.values() for held in energy[:-1].tolist()]
        assert min(abs(held - share) for held in below_one) > 1e-6  # PEFT sums in float32


def test_no_layer_is_left_without_a_component() -> None:
    energies = drawn(5, 4, 0)
    assert all(set(ranks_at(share_for(energies, budget), energies).values()) == {1} for budget in range(6))


def test_where_layers_are_equal_the_sum_is_the_nearest_below() -> None:
    one = torch.tensor([0.5, 0.8, 1.0])
    energies = {"a": one, "b": one.clone()}
    sums = {share: sum(ranks_at(share, energies).values()) for share in torch.arange(0.01, 1.0, 0.01).tolist()}
    for budget in range(2, 7):
        found = sum(ranks_at(share_for(energies, budget), energies).values())
        assert found == max(each for each in sums.values() if each <= budget)


def test_the_ranks_have_autoloras_sum(made: Made) -> None:
    ranks = Ranks.load(made.run.path / "retrain" / "ranks.json")
    assert list(ranks) == LAYERS
    assert ranks.total == BUDGET
    assert ranks.initial_rank == 4
    assert set(ranks.values()) != {2}


def test_what_is_kept_is_the_best_approximation_of_each_layers_update(made: Made) -> None:
    before, after = loaded(made.uniform, made.context), loaded(made.run, made.context)
    ranks = Ranks.load(made.run.path / "retrain" / "ranks.json")
    ratios = []
    for name, rank in ranks.items():
        update = delta(before, name)
        u, s, v = np.linalg.svd(update)
        best = (u[:, :rank] * s[:rank]) @ v[:rank]
        assert np.allclose(delta(after, name), best, atol=1e-5 * s[0])
        assert np.linalg.norm(best - update) > 1e-3 * np.linalg.norm(update) or rank == 4
        ratios += [float((s**2)[:r].sum() / (s**2).sum()) for r in (rank - 1, rank)]
    assert max(ratios[::2]) < min(ratios[1::2])  # one share decides for all: nobody's last component is dispensable


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
