"""Linear layers whose weight bitsandbytes keeps in 4 or 8 bits, multiplied as `autolora.lora.frozen` says.

bitsandbytes quantises and de-quantises; its own products are not used. That of int8 rounds the inputs, too, and has a
gradient that is not the product's; that of nf4 has one precision for all passes, and repacks weights on CPUs. Here
both are y = x wide(W)ᵀ + b of the W that they stand for, in whatever precision the pass is.

Only what has loaded a quantised model imports this module.
"""

from __future__ import annotations

from typing import Any

import bitsandbytes as bnb
import torch
from torch import Tensor, nn
from typing_extensions import override

from autolora.lora.frozen import Frozen


class FrozenLinear4bit(bnb.nn.Linear4bit, Frozen):  # type: ignore[misc]  # bitsandbytes has no types
    """Four bits, in blocks of 64 with a scale each."""

    @override
    def wide(self, dtype: torch.dtype) -> Tensor:
        state = self.weight.quant_state
        found: Tensor = bnb.functional.dequantize_4bit(self.weight.data, state)
        return found.to(dtype)

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.multiplied(x)


class FrozenLinear8bit(bnb.nn.Linear8bitLt, Frozen):  # type: ignore[misc]
    """Eight bits, with a scale for every output."""

    @override
    def wide(self, dtype: torch.dtype) -> Tensor:
        # A forward pass of bitsandbytes' own, in a model that came from elsewhere, has moved them into its state.
        weight: Any = self.weight
        state: Any = self.state
        rows = weight.CB if getattr(weight, "CB", None) is not None else weight.data
        scales = weight.SCB if getattr(weight, "SCB", None) is not None else state.SCB
        found: Tensor = (rows.to(torch.float32) * (scales.to(torch.float32).view(-1, 1) / 127)).to(dtype)
        return found

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.multiplied(x)


KINDS: dict[type[nn.Module], type[nn.Module]] = {
    bnb.nn.Linear4bit: FrozenLinear4bit,
    bnb.nn.Linear8bitLt: FrozenLinear8bit,
}


def settle_quantised(model: nn.Module) -> None:
    """Make bitsandbytes' layers compute as frozen ones of ours, in place.

    Args:
        model: As it was loaded.
    """
    for module in model.modules():
        if type(module) in KINDS:
            module.__class__ = KINDS[type(module)]
            module.requires_grad_(False)
