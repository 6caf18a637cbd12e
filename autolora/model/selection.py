"""The selection layer: LoRA whose rank-1 components are weighted by selection variables (paper, section 3.1).

| symbol | meaning | shape |
|---|---|---|
| W | frozen weight | (m, n) |
| A, B | LoRA factors; A Kaiming-uniform, B zero | (k, n), (m, k) |
| z | selection logits | (k,) |
| a | selection variables, constraint(z) | (k,) |
| s | scaling, lora_alpha / k | |

    y = W x + s * sum_j a[j] * B[:, j] (A[j, :] x)

With the softmax constraint a[j] starts at 1/k, so the update is 1/k of a plain LoRA's at the same factors: that is the
paper's definition, kept here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autolora.model.targets import input_output_features, target_modules

Constraint = Callable[[Tensor], Tensor]

CONSTRAINTS: Mapping[str, Constraint] = {
    "softmax": lambda z: torch.softmax(z, dim=-1),
    "sigmoid": torch.sigmoid,  # ablation: element-wise
    "none": lambda z: z,  # ablation: free
}


class SelectionLoRA(nn.Module):
    """A linear layer with weighted LoRA components; `keep` (k,) switches components off where it is zero."""

    def __init__(self, base: nn.Module, rank: int, lora_alpha: float, dropout: float, constraint: str) -> None:
        super().__init__()
        n, m = input_output_features(base)
        weight: Tensor = base.weight  # type: ignore[assignment]
        device, dtype = weight.device, torch.promote_types(weight.dtype, torch.float32)
        self.base = base
        self.scaling = lora_alpha / rank
        self.constraint = CONSTRAINTS[constraint]
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.lora_A = nn.Parameter(torch.empty(rank, n, device=device, dtype=dtype))
        self.lora_B = nn.Parameter(torch.zeros(m, rank, device=device, dtype=dtype))
        # Free variables start where the softmax's do, at 1/k.
        start = 1 / rank if constraint == "none" else 0.0
        self.selection_logits = nn.Parameter(torch.full((rank,), start, device=device, dtype=dtype))
        self.keep: Tensor | None = None
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def selection(self) -> Tensor:
        """a, shape (k,)."""
        a = self.constraint(self.selection_logits)
        return a if self.keep is None else a * self.keep

    def forward(self, x: Tensor) -> Tensor:
        """x (..., n) to (..., m)."""
        hidden = F.linear(self.dropout(x).to(self.lora_A.dtype), self.lora_A)
        # s * a is folded into B: (m, k) is smaller than the (tokens, k) activations.
        update = F.linear(hidden, self.lora_B * (self.scaling * self.selection()))
        output: Tensor = self.base(x)
        return output + update.to(output.dtype)


def add_selection(
    model: nn.Module,
    names: Sequence[str],
    *,
    rank: int = 8,
    lora_alpha: float = 16.0,
    dropout: float = 0.0,
    constraint: str = "softmax",
) -> dict[str, SelectionLoRA]:
    """Replace the target modules of `model` by selection layers, in place; the layers by full module name.

    The whole model is frozen but for the new A, B and z. Raises UserError as `target_modules` does.
    """
    model.requires_grad_(False)
    layers: dict[str, SelectionLoRA] = {}
    for name, base in target_modules(model, names).items():
        layers[name] = SelectionLoRA(base, rank, lora_alpha, dropout, constraint)
        model.set_submodule(name, layers[name])
    return layers


def selection_logits(layers: Mapping[str, SelectionLoRA]) -> dict[str, Tensor]:
    """z of every layer, as float64 on the CPU, in one transfer from the device."""
    stacked = torch.stack([layer.selection_logits.detach() for layer in layers.values()]).double().cpu()
    return dict(zip(layers, stacked, strict=True))
