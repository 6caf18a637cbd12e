"""One level, the paper's ablation without meta-learning: z and V learn from the same batch with plain gradients.

    gradient of z  =  ∇_z L_tr(V, z)

Not an estimate of the hypergradient; it has the same signature so that the loop needs no branch.
"""

from __future__ import annotations

from autolora.search.bilevel import Hypergradient, Problem
from autolora.search.inner import InnerStep


def estimate(problem: Problem, inner: InnerStep, epsilon: float = 0.01) -> Hypergradient:
    count = len(problem.selection)
    loss, grads = problem.train([*problem.selection, *problem.weights])
    return Hypergradient(grads[:count], grads[count:], loss, loss.clone())
