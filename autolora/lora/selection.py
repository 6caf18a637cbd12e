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
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from autolora.lora.allocation import kept_components
from autolora.lora.ranks import Ranks
from autolora.lora.targets import input_output_features, target_modules

Constraint = Callable[[Tensor], Tensor]

CONSTRAINTS: Mapping[str, Constraint] = {
    "softmax": lambda z: torch.softmax(z, dim=-1),
    "sigmoid": torch.sigmoid,  # ablation: element-wise
    "none": lambda z: z,  # ablation: free
}


class SelectionLoRA(nn.Module):
    """A linear layer (n to m features) with weighted LoRA components.

    Args:
        base: The layer that is adapted, an nn.Linear or a Conv1D; it is part of this one.
        rank: k.
        lora_alpha: The scaling is lora_alpha / k.
        dropout: Probability, of the update's input.
        constraint: One of `CONSTRAINTS`.
    """

    def __init__(self, base: nn.Module, rank: int, lora_alpha: float, dropout: float, constraint: str) -> None:
        super().__init__()
        n, m = input_output_features(base)
        weight: Tensor = base.weight  # type: ignore[assignment]
        device, dtype = weight.device, torch.promote_types(weight.dtype, torch.float32)
        self.base = base
        self.shape, self.lora_alpha, self.scaling = (n, m), lora_alpha, lora_alpha / rank
        self.constraint = constraint
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.lora_A = nn.Parameter(torch.empty(rank, n, device=device, dtype=dtype))
        self.lora_B = nn.Parameter(torch.zeros(m, rank, device=device, dtype=dtype))
        # Free variables start where the softmax's do, at 1/k.
        start = 1 / rank if constraint == "none" else 0.0
        self.selection_logits = nn.Parameter(torch.full((rank,), start, device=device, dtype=dtype))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def selection(self) -> Tensor:
        """The selection variables a, shape (k,)."""
        return CONSTRAINTS[self.constraint](self.selection_logits)

    @override
    def __getattr__(self, name: str) -> Any:
        """What a model asks of the layer that was here: T5 looks at the type of its weight."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base"), name)

    def trained(self) -> tuple[nn.Parameter, ...]:
        """A, B and z."""
        return self.lora_A, self.lora_B, self.selection_logits

    @override
    def forward(self, x: Tensor) -> Tensor:
        """The layer's outputs (..., m) of inputs x (..., n)."""
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
    """Replace the target modules of `model` by selection layers, in place.

    The whole model is frozen but for the new A, B and z.

    Args:
        model: Any module with linear layers.
        names: Of the layers, in full or a dotted end of them.
        rank: k.
        lora_alpha: The scaling is lora_alpha / k.
        dropout: Probability, of the updates' inputs.
        constraint: One of `CONSTRAINTS`.

    Returns:
        The new layers by full module name, in the model's order.

    Raises:
        UserError: As `target_modules`.
    """
    model.requires_grad_(False)
    layers: dict[str, SelectionLoRA] = {}
    for name, base in target_modules(model, names).items():
        layers[name] = SelectionLoRA(base, rank, lora_alpha, dropout, constraint)
        model.set_submodule(name, layers[name])
    return layers


def selection_logits(layers: Mapping[str, SelectionLoRA]) -> dict[str, Tensor]:
    """The logits z of every layer, as float64 on the CPU, in one transfer from the device.

    Args:
        layers: By full module name, of one k.

    Returns:
        Tensors of shape (k,) by the same names.
    """
    stacked = torch.stack([layer.selection_logits.detach() for layer in layers.values()]).cpu().double()
    return dict(zip(layers, stacked, strict=True))


def selection_variables(logits: Mapping[str, Tensor], constraint: str) -> dict[str, list[float]]:
    """The selection variables a of every layer, computed in float64.

    Args:
        logits: z of shape (k,) by full module name.
        constraint: One of `CONSTRAINTS`.

    Returns:
        k floats by the same names.
    """
    return {name: CONSTRAINTS[constraint](z.detach().cpu().double()).tolist() for name, z in logits.items()}


def learned_ranks(layers: Mapping[str, SelectionLoRA], threshold: float | None = None) -> Ranks:
    """The ranks that the layers' present selection variables give (paper, section 3.3).

    Args:
        layers: By full module name, of one k and one constraint.
        threshold: λ; None for the constraint's own.
    """
    first = next(iter(layers.values()))
    selection = selection_variables(selection_logits(layers), first.constraint)
    kept = kept_components(selection, first.constraint, threshold)
    return Ranks(
        {name: len(indices) for name, indices in kept.items()},
        initial_rank=first.lora_A.shape[0],
        lora_alpha=first.lora_alpha,
        shapes={name: layer.shape for name, layer in layers.items()},
        kept=kept,
        rule={"constraint": first.constraint, "threshold": threshold, "selection": selection},
    )
