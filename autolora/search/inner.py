"""The inner step V' = V - ξ u(g), and its derivative with respect to g.

| symbol | meaning |
|---|---|
| g | ∇_V L_tr(V, z), a list of tensors shaped like V |
| ξ | inner learning rate |
| u | the step's direction: g itself, or Adam's |
| m, v | Adam's moments before this step |
| t | number of this step, from 1 |

Plain:  u(g) = g,  u'(g) = 1.
Adam:   m̂ = (β1 m + (1-β1) g) / (1-β1^t),  v̂ = (β2 v + (1-β2) g²) / (1-β2^t),  u = m̂ / (√v̂ + ε), element-wise, so
        u' = (1-β1)/(1-β1^t) / (√v̂+ε)  -  m̂ (1-β2) g / ((1-β2^t) √v̂ (√v̂+ε)²).

u' is the exact derivative of the step that V takes: the preconditioner 1/(√v̂+ε) and how g moves it. Decoupled weight
decay does not depend on z; it is left out of V', which it would move by ξ times the decay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

Tensors = list[Tensor]


class InnerStep(Protocol):
    """xi: the inner learning rate ξ of this iteration."""

    xi: float

    def direction(self, g: Sequence[Tensor]) -> Tensors:
        """u(g), shaped like g."""

    def pull_back(self, g: Sequence[Tensor], vector: Sequence[Tensor]) -> Tensors:
        """u'(g) times `vector`, element-wise, shaped like g."""


class PlainStep:
    """Gradient descent."""

    def __init__(self, xi: float) -> None:
        self.xi = xi

    def direction(self, g: Sequence[Tensor]) -> Tensors:
        return list(g)

    def pull_back(self, g: Sequence[Tensor], vector: Sequence[Tensor]) -> Tensors:
        return list(vector)


class AdamStep:
    """Adam's step number t, from the moments before it.

    moments: gives (m, v), shaped like V; called when they are needed, as they change with every step.
    """

    def __init__(
        self,
        xi: float,
        moments: Callable[[], tuple[Tensors, Tensors]],
        t: int,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.xi, self.moments, self.t, self.betas, self.eps = xi, moments, t, betas, eps

    def direction(self, g: Sequence[Tensor]) -> Tensors:
        m_hat, root = self._corrected(g)
        return list(torch._foreach_div(m_hat, torch._foreach_add(root, self.eps)))

    def pull_back(self, g: Sequence[Tensor], vector: Sequence[Tensor]) -> Tensors:
        m_hat, root = self._corrected(g)
        c1 = (1 - self.betas[0]) / (1 - self.betas[0] ** self.t)
        c2 = (1 - self.betas[1]) / (1 - self.betas[1] ** self.t)
        return [self._derivative(gi, mi, ri, c1, c2) * v for gi, mi, ri, v in zip(g, m_hat, root, vector, strict=True)]

    def _derivative(self, g: Tensor, m_hat: Tensor, root: Tensor, c1: float, c2: float) -> Tensor:
        denominator = root + self.eps
        # Where v̂ is zero so is g, and the second part's limit is zero.
        moved = m_hat * c2 * g / (root.clamp_min(torch.finfo(root.dtype).tiny) * denominator.square())
        return c1 / denominator - torch.where(root > 0, moved, torch.zeros_like(moved))

    def _corrected(self, g: Sequence[Tensor]) -> tuple[Tensors, Tensors]:
        """m̂ and √v̂."""
        (b1, b2), (m, v) = self.betas, self.moments()
        m_hat = [(b1 * mi + (1 - b1) * gi) / (1 - b1**self.t) for mi, gi in zip(m, g, strict=True)]
        root = [((b2 * vi + (1 - b2) * gi.square()) / (1 - b2**self.t)).sqrt() for vi, gi in zip(v, g, strict=True)]
        return m_hat, root
