"""Central difference, the paper's estimator: two more passes over the training batch.

    ∇_z (∇_V L_tr · v)  ≈  [ ∇_z L_tr(V + e v, z) - ∇_z L_tr(V - e v, z) ] / (2 e),   e = epsilon / ||v||

Four forward and four backward passes in all. Error O(e²).
"""

from __future__ import annotations

from autolora.bilevel.inner import InnerStep
from autolora.bilevel.problem import Hypergradient, Problem, combine, difference, moved, step_size, validation_at_step


def estimate(problem: Problem, inner: InnerStep, epsilon: float = 0.01) -> Hypergradient:
    """The hypergradient by the central difference above.

    Args:
        problem: The losses; two passes over its training batch are at V ± e v.
        inner: The step from V to V'.
        epsilon: The length of e v.
    """
    train_loss, g = problem.train(problem.weights)
    validation_loss, direct, w = validation_at_step(problem, inner, g)
    v = inner.pull_back(g, w)
    e = step_size(epsilon, v)
    with moved(problem.weights, v, e):
        _, plus = problem.train(problem.selection, difference=True)
    with moved(problem.weights, v, -e):
        _, minus = problem.train(problem.selection, difference=True)
    mixed = difference(plus, minus, 2 * e)
    return Hypergradient(combine(direct, inner.xi, mixed), g, train_loss, validation_loss)
