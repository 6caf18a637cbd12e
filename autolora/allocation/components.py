"""The singular components of a LoRA layer's update, without ever forming it.

| symbol | meaning | shape |
|---|---|---|
| A, B | LoRA factors | (k, n), (m, k) |
| a | selection variables; 1 in a plain LoRA | (k,) |
| s | scaling | float |
| ΔW | the update, s B diag(a) A | (m, n) |
| σ, u, v | singular values (s lies in them, descending) and vectors | (q,), (m, q), (n, q) |

    B diag(a) = Q R,  Aᵀ = P T,  R Tᵀ = X diag(σ / s) Yᵀ (q x q),  u = Q X,  v = P Y,  so  ΔW = Σ σ_i u_i v_iᵀ

q is at most min(k, m, n); components that are zero up to rounding are left out, as nothing could ever train them. All
of it in float64 on the CPU, whatever the layer is in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from autolora.errors import RunError, UserError
from autolora.lora.selection import SelectionLoRA

# PEFT's layers whose A and B are linear, and what they adapt is no linear layer: parameters (all experts in one), and
# the three projections of an attention in one.
_OTHERS = ("ParamWrapper", "MultiheadAttention")


@dataclass(frozen=True)
class Factors:
    """A layer's update s B diag(a) A as it is trained.

    Args:
        a: A, (k, n).
        b: B diag(a), (m, k).
        scaling: s.
    """

    a: Tensor
    b: Tensor
    scaling: float


@dataclass(frozen=True)
class Components:
    """The singular components of one layer's update, the largest first.

    Args:
        u: (m, q), float64.
        sigma: (q,), float64; the scaling lies in it.
        v: (n, q), float64.
        scaling: s.
        rank: k, the rank that the layer is trained at, which is at least q.
    """

    u: Tensor
    sigma: Tensor
    v: Tensor
    scaling: float
    rank: int

    def __len__(self) -> int:
        return len(self.sigma)

    @property
    def cost(self) -> int:
        """Parameters of one component, m + n."""
        return len(self.u) + len(self.v)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m), input and output features."""
        return len(self.v), len(self.u)

    def rescaled(self, scaling: float) -> Components:
        """The same update for a layer of another scaling.

        Args:
            scaling: s, of the same sign.
        """
        return replace(self, scaling=scaling)

    def factors(self, kept: Sequence[int]) -> tuple[Tensor, Tensor]:
        """A = √(σ/s) vᵀ and B = u √(σ/s) of the kept components, so that s B A is their part of the update.

        Args:
            kept: Indices among the q.

        Returns:
            Of shape (r, n) and (m, r), float64.
        """
        index = torch.tensor(list(kept), dtype=torch.long)
        root = (self.sigma[index] / self.scaling).sqrt()
        return root[:, None] * self.v[:, index].T, self.u[:, index] * root


def factors_of(name: str, layer: nn.Module) -> Factors:
    """What a layer adds to its frozen weight.

    Args:
        name: The layer's, for messages.
        layer: PEFT's LoRA layer with one adapter, or a `SelectionLoRA`.

    Raises:
        UserError: It is another kind of LoRA than s B A on a linear layer.
    """
    if isinstance(layer, SelectionLoRA):
        return Factors(layer.lora_A.detach(), (layer.lora_B.detach() * layer.selection().detach()), layer.scaling)
    if not isinstance(layer, LoraLayer):
        raise UserError(f"{name} is a {type(layer).__name__}, and no LoRA layer")
    adapter = adapter_of(name, layer)
    a, b = cast(nn.Linear, layer.lora_A[adapter]), cast(nn.Linear, layer.lora_B[adapter])
    return Factors(a.weight.detach(), b.weight.detach(), float(layer.scaling[adapter]))


def adapter_of(name: str, layer: LoraLayer) -> str:
    """The name of the one adapter of a PEFT layer, which must be s B A on a linear layer, at work and not merged.

    Args:
        name: The layer's, for messages.
        layer: PEFT's.

    Raises:
        UserError: It is something else.
    """
    found = list(layer.lora_A)
    if len(found) != 1 or layer.active_adapters != found:
        raise UserError(f"{name}: there must be one adapter, and active, got {found or 'none'} on a linear layer")
    if layer.merged:
        raise UserError(f"{name}: the adapter is merged into the weights; call unmerge_adapter() first")
    if layer.disable_adapters:
        raise UserError(f"{name}: the adapter is disabled; call enable_adapter_layers(), or leave disable_adapter()")
    adapter = found[0]
    variant = layer.lora_variant.get(adapter) is not None or layer.lora_bias.get(adapter)
    if variant or type(layer).__name__ in _OTHERS or not isinstance(layer.lora_A[adapter], nn.Linear):
        raise UserError(f"{name}: only a plain LoRA on a linear layer can be decomposed; this one is a variant of it")
    return adapter


@torch.no_grad()
def decompose(factors: Factors) -> Components:
    """The singular components of an update (formula above).

    Args:
        factors: Of one layer, on any device.

    Raises:
        RunError: There is a value in it that is not finite.
    """
    a, b = _finite(factors)
    q, r = torch.linalg.qr(b)
    p, t = torch.linalg.qr(a.T)
    x, sigma, yt = torch.linalg.svd(r @ t.T, full_matrices=False)
    alive = _alive(sigma, factors)
    u, v = q @ x[:, alive], p @ yt.T[:, alive]
    return Components(u, sigma[alive] * factors.scaling, v, factors.scaling, len(a))


@torch.no_grad()
def spectrum(factors: Factors) -> Tensor:
    """The σ of `decompose` alone, in a third of the time and without a matrix of the layer's size.

    Args:
        factors: Of one layer, on any device.

    Returns:
        Of shape (q,), float64, descending.

    Raises:
        RunError: There is a value in it that is not finite.
    """
    a, b = _finite(factors)
    r, t = (torch.linalg.qr(each, mode="r").R for each in (b, a.T))
    sigma: Tensor = torch.linalg.svdvals(r @ t.T)
    return sigma[_alive(sigma, factors)] * factors.scaling


def _finite(factors: Factors) -> tuple[Tensor, Tensor]:
    """A and B in float64 on the CPU."""
    a, b = factors.a.cpu().double(), factors.b.cpu().double()
    if not (a.isfinite().all() and b.isfinite().all()):
        raise RunError("the factors hold values that are not finite: the training has diverged")
    return a, b


def _alive(sigma: Tensor, factors: Factors) -> Tensor:
    """Which singular values are more than rounding."""
    alive: Tensor = sigma > sigma.new_tensor(torch.finfo(torch.float64).eps * max(len(factors.a), 1)) * sigma.max()
    return alive & (factors.scaling != 0)  # a layer that is scaled to nothing has no update


def pairs(factors: Factors) -> Components:
    """The pairs of columns s B_j a_j A_j themselves, in their order: what selection variables are of.

    They are neither orthogonal nor of unit length: v is A, u is B diag(a), and every σ is s.

    Args:
        factors: Of one layer, on any device.
    """
    a, b = factors.a.cpu().double(), factors.b.cpu().double()
    return Components(b, b.new_full((len(a),), factors.scaling), a.T, factors.scaling, len(a))


def components_of(layers: Mapping[str, nn.Module]) -> dict[str, Components]:
    """The singular components of every layer, by its name.

    Args:
        layers: PEFT's or our own LoRA layers by full module name.

    Raises:
        UserError: As `factors_of` and `decompose`.
    """
    found = {}
    for name, layer in layers.items():
        factors = factors_of(name, layer)
        try:
            found[name] = decompose(factors)
        except RunError as error:
            raise RunError(f"{name}: {error}") from None
    return found
