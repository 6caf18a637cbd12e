"""One level, the paper's ablation without meta-learning: z and V learn from the same batch with plain gradients.

    gradient of z  =  ∇_z L_tr(V, z)

Not an estimate of the hypergradient; it has the same signature so that the loop needs no branch.
"""

from __future__ import annotations

from autolora.bilevel.inner import InnerStep
from autolora.bilevel.problem import Hypergradient, Problem


def estimate(problem: Problem, inner: InnerStep, epsilon: float = 0.01) -> Hypergradient:
    """The gradients of L_tr with respect to z and V, in one pass.

    Args:
        problem: The losses, of which only L_tr is used.
        inner: Unused: there is no V'.
        epsilon: Unused: there is no difference.

    Returns:
        With L_tr in the place of both losses.
    """
    count = len(problem.selection)
    loss, grads = problem.train([*problem.selection, *problem.weights])
    return Hypergradient(grads[:count], grads[count:], loss, loss.clone())
