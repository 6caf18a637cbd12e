"""The bilevel problem of one iteration, and what every hypergradient estimator shares (paper, section 3.2).

| symbol | meaning |
|---|---|
| V | all trainable weights (A, B, head), a list of tensors |
| z | selection logits of all layers, a list of tensors of shape (k,) |
| g | ∇_V L_tr(V, z) |
| V' | V - ξ u(g), see `autolora.bilevel.inner` |
| w | ∇_V' L_val(V', z) |
| v | u'(g) w, the vector of the mixed second derivative |

    hypergradient = ∇_z L_val(V', z) - ξ ∇_z ( ∇_V L_tr(V, z) · v )

An `Estimator` is a function ``estimate(problem, inner, epsilon) -> Hypergradient``. Every pass over the training batch
of one iteration sees the same dropout masks: a difference of passes with different masks measures the masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from autolora.bilevel.inner import InnerStep, Tensors
from autolora.training.finite import norm


class Problem(Protocol):
    """The two losses of one iteration, at the current values of V and z."""

    weights: Tensors  # V
    selection: Tensors  # z

    def train(self, wrt: Sequence[Tensor], *, difference: bool = False) -> tuple[Tensor, Tensors]:
        """L_tr and its gradients.

        Args:
            wrt: What to differentiate with respect to, among V and z.
            difference: The result is subtracted from another, so that rounding counts.

        Returns:
            A scalar on the device, and gradients shaped like `wrt`; neither has a graph.
        """

    def validation(self, wrt: Sequence[Tensor]) -> tuple[Tensor, Tensors]:
        """L_val and its gradients.

        Args:
            wrt: What to differentiate with respect to, among V and z.

        Returns:
            As `train`.
        """

    def train_mixed_product(self, vector: Sequence[Tensor]) -> Tensors:
        """∇_z (∇_V L_tr · vector) by double backward.

        Args:
            vector: Shaped like V.

        Returns:
            Shaped like z.
        """


@dataclass(frozen=True)
class Hypergradient:
    """What an estimator gives.

    Args:
        selection: The hypergradient, shaped like z.
        weights: g, shaped like V.
        train_loss: L_tr(V, z), a scalar on the device.
        validation_loss: L_val at V', likewise.
    """

    selection: Tensors
    weights: Tensors
    train_loss: Tensor
    validation_loss: Tensor


class Estimator(Protocol):
    """Estimates the hypergradient of one iteration."""

    def __call__(self, problem: Problem, inner: InnerStep, epsilon: float = 0.01) -> Hypergradient:
        """Estimate it.

        Args:
            problem: The losses; its V is the same again afterwards.
            inner: The step from V to V'.
            epsilon: V is perturbed by epsilon / ||v||, where a difference is taken at all.
        """


@contextmanager
def moved(tensors: Sequence[Tensor], direction: Sequence[Tensor], amount: float | Tensor) -> Iterator[None]:
    """V := V + amount * direction inside, and exactly V again afterwards.

    Args:
        tensors: V, changed in place.
        direction: Shaped like V.
        amount: A number, or a scalar on the device.
    """
    saved = [tensor.detach().clone() for tensor in tensors]
    with torch.no_grad():
        torch._foreach_add_(list(tensors), torch._foreach_mul(list(direction), amount))
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(tensors), saved)


def validation_at_step(problem: Problem, inner: InnerStep, g: Sequence[Tensor]) -> tuple[Tensor, Tensors, Tensors]:
    """L_val, ∇_z L_val and w = ∇_V' L_val, all at V'.

    Args:
        problem: The losses of this iteration.
        inner: The step from V to V'.
        g: ∇_V L_tr, shaped like V.
    """
    with moved(problem.weights, inner.direction(g), -inner.xi):
        loss, grads = problem.validation([*problem.selection, *problem.weights])
    count = len(problem.selection)
    return loss, grads[:count], grads[count:]


def step_size(epsilon: float, vector: Sequence[Tensor]) -> Tensor:
    """The distance of a difference, epsilon / ||v||, a scalar on the device; a zero vector perturbs nothing.

    Args:
        epsilon: How far V is moved, in the 2-norm over all tensors together.
        vector: v, shaped like V.
    """
    length = norm(vector)
    safe: Tensor = torch.where(length > 0, length, torch.ones_like(length))
    return epsilon / safe


def difference(after: Sequence[Tensor], before: Sequence[Tensor], distance: Tensor) -> Tensors:
    """The quotient (after - before) / distance, tensor by tensor.

    Args:
        after: Gradients at the one point.
        before: Gradients at the other, shaped alike.
        distance: From the other to the one along v, a scalar on the device.
    """
    return list(torch._foreach_div(torch._foreach_sub(list(after), list(before)), distance))


def combine(direct: Sequence[Tensor], xi: float, mixed: Sequence[Tensor]) -> Tensors:
    """The hypergradient ∇_z L_val - ξ (mixed product).

    Args:
        direct: ∇_z L_val at V', shaped like z.
        xi: ξ.
        mixed: ∇_z (∇_V L_tr · v), shaped like z.
    """
    return list(torch._foreach_add(list(direct), list(mixed), alpha=-xi))
