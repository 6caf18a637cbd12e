"""The frozen weight W of a layer: kept in 16, 8 or 4 bits, multiplied in the precision of the pass.

| symbol | meaning | shape |
|---|---|---|
| W | frozen weight as it is kept: bfloat16 or float16, or quantised by bitsandbytes | (m, n) |
| x, b | the layer's input; its bias, in float32 | (..., n), (m,) |

    y = x wide(W)ᵀ + b

wide(W) is W in the precision of the pass: bfloat16 under autocast, else float32. It is made anew in the forward and in
the backward pass, one layer at a time, and never kept. Everything between the layers is what it is in a float32 model
(embeddings come out in float32), so where W holds what the checkpoint holds, every pass gives what it gives there:
under autocast, which rounds W to bfloat16 anyway, and in float32, where widening is exact. So nothing that takes
differences or squares of gradients has to know how the base is kept.

The product is linear in x and its backward pass is the same product, transposed: it can be differentiated twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D
from typing_extensions import override

LOW = (torch.bfloat16, torch.float16)


class _Product(torch.autograd.Function):
    """x Wᵀ + b, or x W + b where `turned`; keeps the layer instead of a wide copy of its weight."""

    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, layer: Any, turned: bool) -> Tensor:
        ctx.layer, ctx.turned = layer, turned
        weight = layer.wide(x.dtype)
        return F.linear(x, weight.t() if turned else weight, bias)

    @staticmethod
    @override
    def backward(ctx: Any, *gradients: Any) -> Any:
        (g,) = gradients
        product: Any = _Product.apply
        of_x = product(g, None, ctx.layer, not ctx.turned) if ctx.needs_input_grad[0] else None
        of_bias = g.flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        return of_x, of_bias, None, None


class Frozen(nn.Module):
    """What the kinds of layers have in common."""

    weight: Any
    bias: Any

    def wide(self, dtype: torch.dtype) -> Tensor:
        """W, (m, n).

        Args:
            dtype: What it is wanted in.
        """
        found: Tensor = self.weight.to(dtype)
        return found

    def multiplied(self, x: Tensor) -> Tensor:
        """The product x wide(W)ᵀ + b.

        Args:
            x: (..., n).
        """
        dtype = _of_pass(x)
        bias = None if self.bias is None else self.bias.to(dtype)
        found: Tensor = _Product.apply(x.to(dtype), bias, self, False)  # type: ignore[no-untyped-call]
        return found


class FrozenLinear(nn.Linear, Frozen):
    """An nn.Linear."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):
            return F.linear(x, self.weight, self.bias)
        return self.multiplied(x)


class FrozenConv1D(Conv1D, Frozen):
    """GPT-2's layer, which keeps its weight as (n, m)."""

    @override
    def wide(self, dtype: torch.dtype) -> Tensor:
        found: Tensor = self.weight.t().to(dtype)
        return found

    @override
    def forward(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):
            plain: Any = super().forward
            found: Tensor = plain(x)
            return found
        return self.multiplied(x)


class FrozenEmbedding(nn.Embedding, Frozen):
    """An nn.Embedding, whose rows come out in float32."""

    @override
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).float()


class FrozenScaledEmbedding(nn.Embedding, Frozen):
    """An embedding whose rows are multiplied by a number, ``embed_scale`` (Gemma, BART)."""

    embed_scale: Tensor | float

    @override
    def forward(self, input: Tensor) -> Tensor:
        return nn.Embedding.forward(self, input).float() * self.embed_scale


class FrozenExperts(Frozen):
    """A module with the weights of all experts in one, which computes with them in its own way: in float32 inside.

    The wide copies of one layer are there while it computes, and until its backward pass where gradients are taken.
    """

    inner: ClassVar[type[nn.Module]]

    @override
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        low = {name: each for name, each in self._parameters.items() if each is not None and each.dtype in LOW}
        self._parameters.update({name: each.float() for name, each in low.items()})  # type: ignore[misc]
        try:
            return self.inner.forward(self, *args, **kwargs)
        finally:
            self._parameters.update(low)


KINDS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: FrozenLinear,
    Conv1D: FrozenConv1D,
    nn.Embedding: FrozenEmbedding,
}
SCALED = "ScaledWordEmbedding"  # how transformers' classes of them end


def _kind(module: nn.Module) -> type[nn.Module] | None:
    """By exact type: what else a model is made of is small, or computes with its weights in ways of its own."""
    kind: Any = type(module)
    if issubclass(kind, nn.Embedding) and kind.__name__.endswith(SCALED) and hasattr(module, "embed_scale"):
        return None if issubclass(kind, Frozen) else _scaled(kind)
    if kind not in KINDS and not issubclass(kind, Frozen) and _matrices(module):
        return _experts(kind)
    return KINDS.get(kind)


def _matrices(module: nn.Module) -> list[str]:
    """Names of the parameters of a module's own that are several matrices in one, as those of experts are."""
    return [name for name, each in module.named_parameters(recurse=False) if each.ndim == 3]


@cache
def _experts(kind: type[nn.Module]) -> type[nn.Module]:
    return type(f"Frozen{kind.__name__}", (FrozenExperts, kind), {"inner": kind})


@cache
def _scaled(kind: type[nn.Module]) -> type[nn.Module]:
    """One of transformers' scaled embeddings, which stays one of them: its scale is set by who knows the class."""
    return type(f"Frozen{kind.__name__}", (FrozenScaledEmbedding, kind), {})


def _of_pass(x: Tensor) -> torch.dtype:
    """The precision that a product of this input has in the present pass."""
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return torch.promote_types(x.dtype, torch.float32)


def narrow(model: nn.Module, dtype: torch.dtype, apart: Collection[str]) -> None:
    """Keep the weights of linear layers and embeddings in 16 bits, in place; everything else stays as it is.

    Args:
        model: In float32, on any device (torch's meta device, too, before it is filled).
        dtype: bfloat16 or float16.
        apart: Full names of modules that stay in float32 with all that is in them: those that are trained.
    """
    apart = [*apart, *_sensitive(model)]
    vocabulary: Any = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None  # type: ignore[operator]
    words = getattr(vocabulary, "num_embeddings", 0)
    weights: dict[int, nn.Parameter] = {}  # tied weights stay tied
    for name, module in model.named_modules():
        kind = _kind(module)
        if kind is None or any(f"{name}.".startswith(f"{each}.") for each in apart):
            continue
        if isinstance(module, nn.Embedding) and module.num_embeddings < words:  # positions: small, and used as they are
            continue
        module.__class__ = kind
        for each in _matrices(module) or ["weight"]:
            old = module.get_parameter(each)
            if old.dtype != dtype:
                new = weights.setdefault(id(old), nn.Parameter(old.detach().to(dtype), requires_grad=False))
                new._keeps = old  # type: ignore[attr-defined]  # its id stays taken
                setattr(module, each, new)
    for kept in weights.values():
        del kept._keeps  # type: ignore[attr-defined]


def _sensitive(model: nn.Module) -> Iterator[str]:
    """Modules that transformers keeps in float32 where a model is in 16 bits: T5's second projection for instance."""
    ends: set[str] = set()
    for module in model.modules():
        for key in ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict"):
            ends |= set(getattr(module, key, None) or ())
    for name, _ in model.named_modules():
        if any(f".{name}".endswith(f".{end}") for end in ends):
            yield name


def is_kept_low(module: nn.Module) -> bool:
    """Whether a module's weight is kept in fewer bits than 32."""
    return isinstance(module, Frozen)


def widen_rest(model: nn.Module) -> None:
    """Make everything float32 that is not kept in fewer bits: what is trained, above all. In place.

    Args:
        model: Adapted or not.
    """
    for module in model.modules():
        if not is_kept_low(module):
            for parameter in module.parameters(recurse=False):
                if parameter.dtype in LOW:
                    parameter.data = parameter.data.float()


def stands_in(module: nn.Module) -> bool:
    """Whether `as_float32` has a stand-in for a module's weight: it is kept in 16 bits."""
    return is_kept_low(module) and "weight" in module._parameters and module.weight.dtype in LOW


@contextmanager
def as_float32(model: nn.Module) -> Iterator[None]:
    """Inside, layers look like float32 ones to whoever builds an adapter on them, which then draws it in float32.

    PEFT draws A and B in float32 and rounds them to the layer's precision. The stand-ins take no memory, and hold no
    values: this is for adapters that are drawn. What an adapter makes of W has to be made anew afterwards.

    Args:
        model: Its layers may be wrapped inside.
    """
    kept = [(m, m.weight) for m in model.modules() if isinstance(m, Frozen) and stands_in(m)]
    for module, weight in kept:
        blank = torch.zeros((), device=weight.device).expand(weight.shape)
        module.weight = nn.Parameter(blank, requires_grad=False)
    try:
        yield
    finally:
        for module, weight in kept:
            module.weight = weight.requires_grad_(False)
