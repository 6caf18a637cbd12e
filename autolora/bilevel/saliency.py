"""What each component was worth to the validation loss, summed over the steps of a search.

| symbol | meaning | shape |
|---|---|---|
| B, a | of a layer, see `autolora.lora.selection` | (m, k), (k,) |
| S_j | Σ over the steps of z of -a_j ∂L_val/∂a_j at V' | (k,) |

The layer's update is s B diag(a) A, so a_j ∂L_val/∂a_j = Σ_i B_ij ∂L_val/∂B_ij: the gradient that the pass over the
validation batch gives anyway. ∂/∂z would not do: the softmax is blind to what the layer is worth as a whole. With
`search.selection.every: n` there is such a pass at every n-th step only: an n-th of the sum, which compares components
just as well, and they are all that S is for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from autolora.lora.selection import SelectionLoRA

_PREFIX = "#saliency:"


class Saliency:
    """The sums S of every layer.

    Args:
        layers: By full module name.
    """

    def __init__(self, layers: Mapping[str, SelectionLoRA]) -> None:
        self.factors: dict[str, Tensor] = {name: layer.lora_B for name, layer in layers.items()}
        self.sums = {name: torch.zeros(b.shape[1], dtype=b.dtype, device=b.device) for name, b in self.factors.items()}

    @torch.no_grad()
    def add(self, gradients: Sequence[Tensor]) -> None:
        """Take in one step, while the layers hold V'.

        Args:
            gradients: ∂L_val/∂B, shaped like the factors and in their order.
        """
        for b, total, gradient in zip(self.factors.values(), self.sums.values(), gradients, strict=True):
            total -= (b * gradient).sum(0)

    def read(self) -> dict[str, list[float]]:
        """S of every layer, by its name."""
        return {name: total.tolist() for name, total in self.sums.items()}

    def state(self) -> dict[str, Tensor]:
        """The sums, so that a resumed search goes on with them."""
        return {_PREFIX + name: total for name, total in self.sums.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `state`.

        Args:
            tensors: A checkpoint's, on any device.
        """
        for name, total in self.sums.items():
            total.copy_(tensors[_PREFIX + name])
