"""A bilevel problem with a closed-form hypergradient.

    L_tr(V, z)  = ½ (V - C z)ᵀ H (V - C z) + q Σ V z        L_val(V, z) = ½ |V - b|² + p · z

With g = H (V - C z) + q z' the one-step V' = V - ξ u(g), and for the plain step
    dV'/dz = ξ (H C - q I),   hypergradient = p + (dV'/dz)ᵀ (V' - b).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

DIMENSION = 5


class Quadratic:
    """`autolora.bilevel.problem.Problem` in float64, plus its closed form. One tensor each for V and z."""

    def __init__(self, seed: int = 0) -> None:
        rng = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=rng, dtype=torch.float64)

        root = draw(DIMENSION, DIMENSION)
        self.H = root @ root.T + torch.eye(DIMENSION, dtype=torch.float64)
        self.C, self.b, self.p, self.q = draw(DIMENSION, DIMENSION), draw(DIMENSION), draw(DIMENSION), 0.7
        self.weights = [draw(DIMENSION).requires_grad_()]
        self.selection = [draw(DIMENSION).requires_grad_()]
        self.passes = 0

    def train_loss(self) -> Tensor:
        (V,), (z,) = self.weights, self.selection
        r = V - self.C @ z
        return 0.5 * r @ self.H @ r + self.q * V @ z

    def validation_loss(self) -> Tensor:
        return 0.5 * (self.weights[0] - self.b).square().sum() + self.p @ self.selection[0]

    def train(self, wrt: Sequence[Tensor], *, difference: bool = False) -> tuple[Tensor, list[Tensor]]:
        return self._gradient(self.train_loss(), wrt)

    def validation(self, wrt: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        return self._gradient(self.validation_loss(), wrt)

    def train_mixed_product(self, vector: Sequence[Tensor]) -> list[Tensor]:
        grads = torch.autograd.grad(self.train_loss(), self.weights, create_graph=True)
        dot = sum((g * v).sum() for g, v in zip(grads, vector, strict=True))
        return list(torch.autograd.grad(dot, self.selection))

    def _gradient(self, loss: Tensor, wrt: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        self.passes += 1
        return loss.detach(), list(torch.autograd.grad(loss, wrt, materialize_grads=True))

    def g(self) -> Tensor:
        """∇_V L_tr in closed form."""
        V, z = self.weights[0].detach(), self.selection[0].detach()
        return self.H @ (V - self.C @ z) + self.q * z

    def hypergradient(self, xi: float, u: Tensor, derivative: Tensor) -> Tensor:
        """Closed form for a step V' = V - xi u with element-wise u'(g) = derivative."""
        V = self.weights[0].detach()
        dg_dz = -self.H @ self.C + self.q * torch.eye(DIMENSION, dtype=torch.float64)
        stepped = V - xi * u
        return self.p - xi * dg_dz.T @ (derivative * (stepped - self.b))
