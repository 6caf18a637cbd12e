"""Saliency by autograd with respect to the selection variables themselves, at V'."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from autolora.bilevel.loop import BilevelSearch
from autolora.bilevel.problem import moved
from autolora.training.seeds import derive, seed_torch
from tests.model.tiny import summed_loss


def check_saliency(
    model: nn.Module, stage: BilevelSearch, *, steps: int, stepped: Collection[int] | None = None
) -> None:
    """Run the search; its saliency must be minus the sum over the steps of the selection variables.

    Args:
        model: The searched one.
        stage: Its search, in float64.
        steps: How many are run.
        stepped: Those that step the selection variables; None: all.
    """
    assert stage.saliency is not None
    truth = {name: torch.zeros(4, dtype=torch.float64) for name in stage.layers}
    for step in range(steps):
        if stepped is None or step in stepped:
            problem, inner = stage.problem(step), stage.inner_step(step)
            _, g = problem.train(problem.weights)
            with moved(problem.weights, inner.direction(g), -inner.xi):
                for name, a in _gradients_of_a(model, stage, problem).items():
                    truth[name] -= a
        stage.advance(step)
    for name, found in stage.saliency.read().items():
        assert torch.tensor(found, dtype=torch.float64) == pytest.approx(truth[name], rel=1e-8, abs=1e-12)


def _gradients_of_a(model: nn.Module, stage: BilevelSearch, problem: Any) -> dict[str, Tensor]:
    """a_j ∂L_val/∂a_j by a factor on every column of B."""
    ones = {name: torch.ones(4, dtype=torch.float64, requires_grad=True) for name in stage.layers}
    scaled = {f"{name}.lora_B": layer.lora_B * ones[name] for name, layer in stage.layers.items()}
    seed_torch(derive(problem.validation_seed, 0, 0))

    def call(**inputs: Any) -> Any:
        return functional_call(model, scaled, (), inputs)

    loss = summed_loss(call, problem.validation_batch.micro[0]) / problem.validation_batch.units  # type: ignore[arg-type]
    return dict(zip(ones, torch.autograd.grad(loss, list(ones.values())), strict=True))
