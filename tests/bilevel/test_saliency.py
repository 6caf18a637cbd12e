"""Saliency against autograd with respect to the selection variables themselves, at V'."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call

from autolora.bilevel.problem import moved
from autolora.training.seeds import derive, seed_torch
from tests.bilevel.tiny_stage import tiny_stage
from tests.model.tiny import summed_loss

ESTIMATORS = ["first_order", "forward_difference", "central_difference", "exact"]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_it_is_minus_a_times_the_gradient_of_a_at_the_step(estimator: str) -> None:
    model, stage = tiny_stage(estimator=estimator, dropout=0.1)
    assert stage.saliency is not None
    truth = {name: torch.zeros(4, dtype=torch.float64) for name in stage.layers}
    for step in range(3):
        problem, inner = stage.problem(step), stage.inner_step(step)
        _, g = problem.train(problem.weights)
        with moved(problem.weights, inner.direction(g), -inner.xi):
            for name, a in _gradients_of_a(model, stage, problem).items():
                truth[name] -= a
        stage.advance(step)
    for name, found in stage.saliency.read().items():
        assert torch.tensor(found, dtype=torch.float64) == pytest.approx(truth[name], rel=1e-8, abs=1e-12)


def _gradients_of_a(model, stage, problem):  # type: ignore[no-untyped-def]
    """a_j ∂L_val/∂a_j by a factor on every column of B."""
    ones = {name: torch.ones(4, dtype=torch.float64, requires_grad=True) for name in stage.layers}
    scaled = {f"{name}.lora_B": layer.lora_B * ones[name] for name, layer in stage.layers.items()}
    seed_torch(derive(problem.validation_seed, 0, 0))

    def call(**inputs):  # type: ignore[no-untyped-def]
        return functional_call(model, scaled, (), inputs)

    loss = summed_loss(call, problem.validation_batch.micro[0]) / problem.validation_batch.units  # type: ignore[arg-type]
    return dict(zip(ones, torch.autograd.grad(loss, list(ones.values())), strict=True))


def test_a_resumed_search_goes_on_with_it() -> None:
    whole, resumed = tiny_stage()[1], tiny_stage()[1]
    for step in range(4):
        whole.advance(step)
    first = tiny_stage()[1]
    for step in range(2):
        first.advance(step)
    resumed.load({name: tensor.clone() for name, tensor in first.state().items()})
    for step in range(2, 4):
        resumed.advance(step)
    assert resumed.ranks().rule["saliency"] == whole.ranks().rule["saliency"]


def test_one_level_has_none() -> None:
    stage = tiny_stage(meta_learning=False)[1]
    stage.advance(0)
    assert "saliency" not in stage.ranks().rule
