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
    """The step from V to V'; `xi` is the inner learning rate ξ of this iteration."""

    xi: float

    def direction(self, g: Sequence[Tensor]) -> Tensors:
        """The direction u(g).

        Args:
            g: ∇_V L_tr, shaped like V.

        Returns:
            Shaped like V.
        """

    def pull_back(self, g: Sequence[Tensor], vector: Sequence[Tensor]) -> Tensors:
        """The derivative u'(g) times a vector, element-wise.

        Args:
            g: ∇_V L_tr, shaped like V.
            vector: Shaped like V.

        Returns:
            Shaped like V.
        """


class PlainStep:
    """Gradient descent.

    Args:
        xi: ξ.
    """

    def __init__(self, xi: float) -> None:
        self.xi = xi

    def direction(self, g: Sequence[Tensor]) -> Tensors:
        """The gradient itself, u(g) = g."""
        return list(g)

    def pull_back(self, g: Sequence[Tensor], vector: Sequence[Tensor]) -> Tensors:
        """The vector itself, as u'(g) = 1."""
        return list(vector)


class AdamStep:
    """Adam's step number t, from the moments before it.

    Args:
        xi: ξ.
        moments: Gives (m, v), shaped like V; called when they are needed, as they change with every step.
        t: Number of the step, from 1.
        betas: β1 and β2.
        eps: ε, added to √v̂.
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
        """The preconditioned gradient u(g) = m̂ / (√v̂ + ε), shaped like g."""
        m_hat, root = self._corrected(g)
        return list(torch._foreach_div(m_hat, torch._foreach_add(root, self.eps)))

    def pull_back(self, g: Sequence[Tensor], vector: Sequence[Tensor]) -> Tensors:
        """The derivative u'(g) (see the module's docstring) times the vector, shaped like g."""
        m_hat, root = self._corrected(g)
        c1 = (1 - self.betas[0]) / (1 - self.betas[0] ** self.t)
        c2 = (1 - self.betas[1]) / (1 - self.betas[1] ** self.t)
        denominator = torch._foreach_add(root, self.eps)
        # u' = (c1 - c2 m̂/(√v̂+ε) g/√v̂) / (√v̂+ε). Where g² underflows, v̂ may be zero; g/√v̂ then counts as zero.
        torch._foreach_clamp_min_(root, torch.finfo(root[0].dtype).tiny ** 0.5)
        derivative = torch._foreach_div(m_hat, denominator)
        torch._foreach_mul_(derivative, torch._foreach_div(list(g), root))
        torch._foreach_mul_(derivative, -c2)
        torch._foreach_add_(derivative, c1)
        torch._foreach_div_(derivative, denominator)
        return list(torch._foreach_mul(derivative, list(vector)))

    def _corrected(self, g: Sequence[Tensor]) -> tuple[Tensors, Tensors]:
        """m̂ and √v̂."""
        (b1, b2), (m, v) = self.betas, self.moments()
        m_hat = torch._foreach_add(torch._foreach_mul(m, b1), list(g), alpha=1 - b1)
        torch._foreach_div_(m_hat, 1 - b1**self.t)
        root = torch._foreach_addcmul(torch._foreach_mul(v, b2), list(g), list(g), 1 - b2)
        torch._foreach_div_(root, 1 - b2**self.t)
        torch._foreach_sqrt_(root)
        return list(m_hat), list(root)
