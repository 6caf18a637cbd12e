"""A search on a tiny transformer, and the hypergradient by autograd through the step V' itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from autolora.bilevel.inner import AdamStep, InnerStep
from autolora.bilevel.loop import BilevelSearch
from autolora.bilevel.problem import Hypergradient, Problem, validation_at_step
from autolora.recipe.schema import Search
from autolora.training.batches import BatchStream
from autolora.training.compute import Compute
from autolora.training.gradients import Gradients, twice_differentiable_attention
from autolora.training.seeds import derive, seed_torch
from tests.model.tiny import collate, summed_loss, tiny_examples, tiny_searched

EXAMPLES, BATCH = 24, 8


def tiny_stage(
    name: str = "bert",
    *,
    dropout: float = 0.0,
    dtype: torch.dtype = torch.float64,
    total: int = 20,
    double_backward: bool = True,
    compute: Compute | None = None,
    randomised: bool = True,
    rank: int = 4,
    device: str = "cpu",
    **settings: Any,
) -> tuple[nn.Module, BilevelSearch]:
    """A model and the stage that searches it; `settings` are those of a recipe's search section."""
    search = Search(**{"batch_size": BATCH, "rank": rank, "lora_dropout": dropout, "steps": total, **settings})
    model, layers, _ = tiny_searched(
        name, rank=rank, dropout=dropout, dtype=dtype, constraint=search.constraint, randomised=randomised
    )
    model.to(device)
    gradients = Gradients(partial(summed_loss, model), compute, double_backward=double_backward)
    streams = [
        BatchStream(
            tiny_examples(EXAMPLES, seed=seed),
            collate,
            batch_size=BATCH,
            seed=seed,
            gradient_accumulation=search.gradient_accumulation,
            device=device,
        )
        for seed in (3, 4)
    ]
    return model, BilevelSearch(model, layers, gradients, *streams, search, total=total, seed=5)


def flat(tensors: list[Tensor]) -> Tensor:
    """All of them as one vector."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def cosine(one: Tensor, other: Tensor) -> float:
    return float(one @ other / (one.norm() * other.norm()))


def relative_error(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).norm() / truth.norm())


def second_order(problem: Problem, inner: InnerStep, result: Hypergradient) -> Tensor:
    """What an estimate adds to ∇_z L_val(V', z), as one vector."""
    _, direct, _ = validation_at_step(problem, inner, result.weights)
    return flat(result.selection) - flat(direct)


def through_the_step(model: nn.Module, stage: BilevelSearch, step: int) -> Tensor:
    """dL_val(V'(z), z)/dz by autograd through V'(z) = V - ξ u(∇_V L_tr(V, z)), as one vector: the truth."""
    problem, inner = stage.problem(step), stage.inner_step(step)
    weights = {name: p.detach().clone().requires_grad_() for name, p in stage.weights.named.items()}
    selection = {name: p.detach().clone().requires_grad_() for name, p in stage.selection.named.items()}

    def loss(v: Mapping[str, Tensor], batch: Any, seed: int) -> Tensor:
        seed_torch(derive(seed, 0, 0))
        call: Any = lambda **inputs: functional_call(model, {**v, **selection}, (), inputs)  # noqa: E731
        return summed_loss(call, batch.micro[0]) / batch.units

    with twice_differentiable_attention():
        train = loss(weights, problem.train_batch, problem.train_seed)
        g = torch.autograd.grad(train, list(weights.values()), create_graph=True)
        u = _textbook_adam(stage, g, step + 1) if isinstance(inner, AdamStep) else list(g)
        stepped = {name: v - inner.xi * d for (name, v), d in zip(weights.items(), u, strict=True)}
        validation = loss(stepped, problem.validation_batch, problem.validation_seed)
        return flat(list(torch.autograd.grad(validation, list(selection.values()))))


def _textbook_adam(stage: BilevelSearch, g: tuple[Tensor, ...], t: int) -> list[Tensor]:
    """Adam's direction, differentiable in g, from the moments that torch's optimiser holds."""
    directions = []
    for parameter, gradient in zip(stage.weights.named.values(), g, strict=True):
        state = stage.weights.optimizer.state[parameter]
        assert float(state["step"]) == t - 1
        m = 0.9 * state["exp_avg"] + 0.1 * gradient
        v = 0.999 * state["exp_avg_sq"] + 0.001 * gradient**2
        directions.append(m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8))
    return directions
