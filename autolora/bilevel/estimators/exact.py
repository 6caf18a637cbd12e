"""Exact: the mixed second derivative by double backward.

    ∇_z ( ∇_V L_tr(V, z) · v )

No difference and no epsilon; it keeps the graph of the gradient, which takes several times the memory.
"""

from __future__ import annotations

from autolora.bilevel.inner import InnerStep
from autolora.bilevel.problem import Hypergradient, Problem, combine, validation_at_step


def estimate(problem: Problem, inner: InnerStep, epsilon: float = 0.01) -> Hypergradient:
    """The hypergradient by double backward.

    Args:
        problem: The losses, whose passes must be differentiable twice.
        inner: The step from V to V'.
        epsilon: Unused: there is no difference.
    """
    train_loss, g = problem.train(problem.weights)
    validation_loss, direct, w = validation_at_step(problem, inner, g)
    mixed = problem.train_mixed_product(inner.pull_back(g, w))
    return Hypergradient(combine(direct, inner.xi, mixed), g, train_loss, validation_loss)
