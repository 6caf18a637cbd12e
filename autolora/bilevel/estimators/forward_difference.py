"""One-sided difference: the z-gradient of the pass that gives g is reused, so one more pass is enough.

    ∇_z (∇_V L_tr · v)  ≈  [ ∇_z L_tr(V + e v, z) - ∇_z L_tr(V, z) ] / e,   e = epsilon / ||v||

Three forward and three backward passes in all. Error O(e).
"""

from __future__ import annotations

from autolora.bilevel.inner import InnerStep
from autolora.bilevel.problem import Hypergradient, Problem, combine, difference, moved, step_size, validation_at_step


def estimate(problem: Problem, inner: InnerStep, epsilon: float = 0.01) -> Hypergradient:
    """The hypergradient by the one-sided difference above.

    Args:
        problem: The losses; one pass over its training batch is at V + e v.
        inner: The step from V to V'.
        epsilon: The length of e v.
    """
    count = len(problem.selection)
    train_loss, grads = problem.train([*problem.selection, *problem.weights], difference=True)
    here, g = grads[:count], grads[count:]
    validation_loss, direct, w = validation_at_step(problem, inner, g)
    v = inner.pull_back(g, w)
    e = step_size(epsilon, v)
    with moved(problem.weights, v, e):
        _, there = problem.train(problem.selection, difference=True)
    mixed = difference(there, here, e)
    return Hypergradient(combine(direct, inner.xi, mixed), g, train_loss, validation_loss)
