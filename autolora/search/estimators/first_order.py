"""First order: the second-order term is dropped.

    hypergradient  ≈  ∇_z L_val(V', z)

Two forward and two backward passes. It is the cheapest, and blind to how V' depends on z.
"""

from __future__ import annotations

from autolora.search.bilevel import Hypergradient, Problem, moved
from autolora.search.inner import InnerStep


def estimate(problem: Problem, inner: InnerStep, epsilon: float = 0.01) -> Hypergradient:
    train_loss, g = problem.train(problem.weights)
    with moved(problem.weights, inner.direction(g), -inner.xi):
        validation_loss, direct = problem.validation(problem.selection)
    return Hypergradient(direct, g, train_loss, validation_loss)
