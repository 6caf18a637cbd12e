"""First order: the second-order term is dropped.

    hypergradient  ≈  ∇_z L_val(V', z)

Two forward and two backward passes. It is the cheapest, and blind to how V' depends on z.
"""

from __future__ import annotations

from autolora.bilevel.inner import InnerStep
from autolora.bilevel.problem import Hypergradient, Problem, moved


def estimate(problem: Problem, inner: InnerStep, epsilon: float = 0.01) -> Hypergradient:
    """The direct term ∇_z L_val at V' alone.

    Args:
        problem: The losses.
        inner: The step from V to V'.
        epsilon: Unused: there is no difference.
    """
    train_loss, g = problem.train(problem.weights)
    with moved(problem.weights, inner.direction(g), -inner.xi):
        validation_loss, direct = problem.validation(problem.selection)
    return Hypergradient(direct, g, train_loss, validation_loss)
