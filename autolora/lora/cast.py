"""Frozen float32 weights that are cast to the precision of passes once, not in every pass.

    cast_once(adapted)
    with torch.autocast("cpu", torch.bfloat16):
        adapted(**batch)        # the same bits as before

Autocast keeps the casts of what is trained for the length of a pass, and casts what is frozen anew at every call. Each
of these casts lives until the layer's backward pass, so at the peak of a training step all of them are there at once:
to keep them takes no more memory than that. Not so of layers below the lowest adapted one, which have no backward pass,
where layers are recomputed, or where weights are sharded over processes.

A cast is taken for what its weight held when it was made: weights that are changed in place, moved or exchanged are
cast anew. What is trained is left to autocast; passes without it see the float32 weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override


class CastLinear(nn.Linear):
    """An nn.Linear of which `cast_once` made one."""

    @override
    def forward(self, input: Tensor) -> Tensor:
        kind = input.device.type
        if self.weight.requires_grad or not torch.is_autocast_enabled(kind):
            return F.linear(input, self.weight, self.bias)
        return F.linear(input, *self.casts(torch.get_autocast_dtype(kind)))

    def casts(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Weight and bias in the precision of the pass; a bias that is trained is itself.

        Args:
            dtype: It.
        """
        bias = None if self.bias is None or self.bias.requires_grad else self.bias
        kept: _Casts | None = self.__dict__.get("_casts")
        if kept is None or not kept.are_of(dtype, self.weight, bias):
            kept = self.__dict__["_casts"] = _Casts(dtype, self.weight, bias)
        return kept.weight, self.bias if kept.bias is None else kept.bias


class _Casts:
    """The casts of a weight and a bias, and what they were made of.

    The latter is kept as tensors that share its memory: as long as they do, no other weight can lie where it lay.
    """

    def __init__(self, dtype: torch.dtype, weight: Tensor, bias: Tensor | None) -> None:
        # Also where the first pass is in inference mode: training cannot go on with what is made in it.
        with torch.inference_mode(False), torch.no_grad():
            self.of = [(each.detach(), each._version) for each in (weight, bias) if each is not None]
            self.dtype, self.weight = dtype, weight.to(dtype)
            self.bias = None if bias is None else bias.to(dtype)

    def are_of(self, dtype: torch.dtype, weight: Tensor, bias: Tensor | None) -> bool:
        """Whether these are the casts of such tensors, as they are now."""
        given = [each for each in (weight, bias) if each is not None]
        return (
            dtype is self.dtype
            and len(given) == len(self.of)
            and all(
                each.data_ptr() == kept.data_ptr() and each._version == version
                for each, (kept, version) in zip(given, self.of, strict=True)
            )
        )


def cast_once(model: nn.Module) -> None:
    """Make a model's frozen linear layers keep the casts of their weights, in place.

    Only plain layers in float32 are changed. Names, parameters and what is saved stay as they are.

    Args:
        model: Adapted or not, with its weights on their device.
    """
    for module in model.modules():
        if type(module) is nn.Linear and _is_plain(module.weight) and not module.weight.requires_grad:
            module.__class__ = CastLinear


def _is_plain(weight: Tensor) -> bool:
    """Whether it is float32 and no kind of tensor of its own, such as a sharded or quantised one."""
    return weight.dtype is torch.float32 and type(weight) is nn.Parameter and type(weight.data) is Tensor


def cast_always(model: nn.Module) -> None:
    """The inverse of `cast_once`: forget the casts.

    Args:
        model: As `cast_once` was given it.
    """
    plain: Any = nn.Linear
    for module in model.modules():
        if type(module) is CastLinear:
            module.__class__ = plain
            module.__dict__.pop("_casts", None)
