"""Exact: the mixed second derivative by double backward.

    ∇_z ( ∇_V L_tr(V, z) · v )

No difference and no epsilon; it keeps the graph of the gradient, which takes several times the memory.
"""

from __future__ import annotations

from autolora.search.bilevel import Hypergradient, Problem, combine, validation_at_step
from autolora.search.inner import InnerStep


def estimate(problem: Problem, inner: InnerStep, epsilon: float = 0.01) -> Hypergradient:
    train_loss, g = problem.train(problem.weights)
    validation_loss, direct, w = validation_at_step(problem, inner, g)
    mixed = problem.train_mixed_product(inner.pull_back(g, w))
    return Hypergradient(combine(direct, inner.xi, mixed), g, train_loss, validation_loss)
