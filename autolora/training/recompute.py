"""Gradient checkpointing: a layer's activations are computed again in the backward pass instead of kept.

    recompute_layers(model)

The layers are those that transformers checkpoints itself. It does so in training mode only; here it is done wherever
gradients are, so that measuring Fisher information, which is without dropout, takes no more memory than training. The
generator's state and the autocast of the first computation hold in the second: dropout masks are the same, and so are
gradients, which can be differentiated once more.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from autolora.errors import UserError

CACHES = ("past_key_values", "past_key_value", "layer_past")


def recompute_layers(model: nn.Module) -> None:
    """Make a model's layers recompute their activations, in place.

    Args:
        model: Of transformers; adapters may be put on it afterwards.

    Raises:
        UserError: It has no layers that can.
    """
    layers: list[Any] = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise UserError(
            f"model.gradient_checkpointing: {type(model).__name__} has no layers that transformers can checkpoint; "
            "leave it out, and raise retrain.gradient_accumulation instead"
        )
    for layer in layers:
        kind: Any = type(layer)
        layer.__class__ = _recomputed(kind)


@cache
def _recomputed(kind: type[nn.Module]) -> type[nn.Module]:
    """A class of layers, by the same name, whose forward pass is recomputed."""

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return kind.forward(self, *args, **kwargs)
        # Nothing is decoded here: a cache would be filled a second time.
        args = tuple(None if isinstance(each, Cache) else each for each in args)
        kwargs |= {name: None for name in CACHES if name in kwargs}
        if "use_cache" in kwargs:
            kwargs["use_cache"] = False
        return checkpoint(partial(kind.forward, self, **kwargs), *args, use_reentrant=False)

    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__, "__doc__": kind.__doc__})
