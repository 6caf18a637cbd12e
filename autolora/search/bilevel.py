"""The bilevel problem of one iteration, and what every hypergradient estimator shares (paper, section 3.2).

| symbol | meaning |
|---|---|
| V | all trainable weights (A, B, head), a list of tensors |
| z | selection logits of all layers, a list of tensors of shape (k,) |
| g | ∇_V L_tr(V, z) |
| V' | V - ξ u(g), see `autolora.search.inner` |
| w | ∇_V' L_val(V', z) |
| v | u'(g) w, the vector of the mixed second derivative |

    hypergradient = ∇_z L_val(V', z) - ξ ∇_z ( ∇_V L_tr(V, z) · v )

An estimator is a function ``estimate(problem, inner, epsilon) -> Hypergradient``. Every pass over the training batch
of one iteration sees the same dropout masks: a difference of passes with different masks measures the masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from autolora.search.inner import InnerStep, Tensors


class Problem(Protocol):
    """The two losses of one iteration, at the current values of V and z."""

    weights: Tensors  # V
    selection: Tensors  # z

    def train(self, wrt: Sequence[Tensor], *, difference: bool = False) -> tuple[Tensor, Tensors]:
        """L_tr (scalar) and its gradients, shaped like `wrt`; `difference`: the result is subtracted from another."""

    def validation(self, wrt: Sequence[Tensor]) -> tuple[Tensor, Tensors]:
        """L_val (scalar) and its gradients, shaped like `wrt`."""

    def train_mixed_product(self, vector: Sequence[Tensor]) -> Tensors:
        """∇_z (∇_V L_tr · vector) by double backward, shaped like z."""


@dataclass(frozen=True)
class Hypergradient:
    """selection: the hypergradient, shaped like z. weights: g, shaped like V. Losses are scalars on the device."""

    selection: Tensors
    weights: Tensors
    train_loss: Tensor
    validation_loss: Tensor


@contextmanager
def moved(tensors: Sequence[Tensor], direction: Sequence[Tensor], amount: float | Tensor) -> Iterator[None]:
    """V := V + amount * direction inside, and exactly V again afterwards."""
    saved = [tensor.detach().clone() for tensor in tensors]
    with torch.no_grad():
        torch._foreach_add_(list(tensors), torch._foreach_mul(list(direction), amount))
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(tensors), saved)


def validation_at_step(problem: Problem, inner: InnerStep, g: Sequence[Tensor]) -> tuple[Tensor, Tensors, Tensors]:
    """L_val, ∇_z L_val and w = ∇_V' L_val, all at V'."""
    with moved(problem.weights, inner.direction(g), -inner.xi):
        loss, grads = problem.validation([*problem.selection, *problem.weights])
    count = len(problem.selection)
    return loss, grads[:count], grads[count:]


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """The 2-norm over all tensors together, a scalar on the device."""
    length: Tensor = torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(list(tensors)))))
    return length


def step_size(epsilon: float, vector: Sequence[Tensor]) -> Tensor:
    """e = epsilon / ||v||, a scalar on the device; a zero vector perturbs nothing."""
    length = norm(vector)
    safe: Tensor = torch.where(length > 0, length, torch.ones_like(length))
    return epsilon / safe


def difference(after: Sequence[Tensor], before: Sequence[Tensor], distance: Tensor) -> Tensors:
    """(after - before) / distance."""
    return list(torch._foreach_div(torch._foreach_sub(list(after), list(before)), distance))


def combine(direct: Sequence[Tensor], xi: float, mixed: Sequence[Tensor]) -> Tensors:
    """∇_z L_val - ξ (mixed product)."""
    return list(torch._foreach_add(list(direct), list(mixed), alpha=-xi))
