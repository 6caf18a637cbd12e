"""Adapters with a bottleneck in every layer of a frozen model: ``houlsby`` and ``pfeiffer``.

y: (…, m)  output of a projection of the pretrained model
D: (r, m)  down, d: (r)   U: (m, r)  up, u: (m)   r = method.size

    adapter(y) = y + U σ(D y + d) + u      U = 0 and u = 0 at the beginning, so that it begins as the identity

An adapter has 2 m r + r + m parameters, in float32 however the model is kept. It comes right after an output
projection, before what the model adds to that (dropout, residual, layer norm). Where this differs from the papers:

- Houlsby et al. draw U from a narrow normal distribution too, so that their adapters are the identity only nearly, and
  their code has the dropout before the adapter instead of after it.
- Pfeiffer et al. found the best place of their one adapter to be after the layer's residual and layer norm, which BERT
  has and models with pre-norm layers have not; here it is before them, in every architecture alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D
from typing_extensions import override

from autolora.errors import UserError
from autolora.lora.targets import input_output_features
from autolora.methods.subset import head_parameters
from autolora.methods.weights import TrainedWeights
from autolora.recipe.schema import MethodSettings

ATTENTION, FEED_FORWARD = "attention", "feed-forward"
# Output projections by their name within a layer (what follows the layer's number).
OUTPUTS: dict[str, tuple[str, ...]] = {
    ATTENTION: (
        "attention.output.dense",  # BERT, RoBERTa, DeBERTa
        "attn.c_proj",  # GPT-2
        "self_attn.o_proj",  # Llama, Mistral, Qwen, Gemma
        "self_attn.out_proj",  # OPT
        "attention.out_lin",  # DistilBERT
        "attention.dense",  # GPT-NeoX
        "attn.out_proj",  # GPT-J
        "attn.Wo",  # ModernBERT
    ),
    FEED_FORWARD: (
        "output.dense",
        "mlp.c_proj",
        "mlp.down_proj",
        "fc2",
        "ffn.lin2",
        "mlp.dense_4h_to_h",
        "mlp.fc_out",
        "mlp.Wo",
    ),
}


class Bottleneck(nn.Module):
    """A projection of the pretrained model with an adapter behind it.

    Args:
        base: The projection, which becomes part of this one.
        size: r, the width of the bottleneck.
        activation: σ.
    """

    def __init__(self, base: nn.Module, size: int, activation: nn.Module) -> None:
        super().__init__()
        width, like = input_output_features(base)[1], next(base.parameters())
        dtype = _trained_in(like.dtype)
        self.base, self.activation = base, activation
        self.down = nn.Linear(width, size, device=like.device, dtype=dtype)
        self.up = nn.Linear(size, width, device=like.device, dtype=dtype)
        # Houlsby et al., section 3.6: standard deviation 0.01, truncated at two of them.
        nn.init.trunc_normal_(self.down.weight, std=0.01, a=-0.02, b=0.02)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    @override
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x)
        # There and back: outside autocast a model in 16 bits gives and takes 16 bits.
        inner: Tensor = self.up(self.activation(self.down(y.to(self.down.weight.dtype))))
        return y + inner.to(y.dtype)


def _trained_in(kept: torch.dtype) -> torch.dtype:
    """The precision of what is trained behind a weight: 16 bits would round an optimiser's steps away.

    float8 and what quantised weights are packed in say nothing of it.
    """
    wide = kept.is_floating_point and kept.itemsize > 1
    return torch.promote_types(kept, torch.float32) if wide else torch.float32


class BottleneckMethod(TrainedWeights):
    """The adapters are trained, and the head.

    Their width is 64 by default: what the code of Houlsby et al. takes, and the one of a single size for all of GLUE
    that the paper reports (79.6, against 80.0 with the best size for each task).
    """

    default_size = 64
    after: ClassVar[tuple[str, ...]]  # which projections of a layer
    activation: ClassVar[type[nn.Module]]

    @classmethod
    def insert(cls, model: PreTrainedModel, size: int) -> list[Bottleneck]:
        """Put new adapters into a model.

        Args:
            model: The pretrained model, changed in place.
            size: r, the width of the bottlenecks.

        Returns:
            Them.

        Raises:
            UserError: It has none of the projections that they belong behind.
        """
        adapters = []
        for name in output_projections(model, cls.after, cls.__name__.lower()):
            adapters.append(Bottleneck(model.get_submodule(name), size, cls.activation()))
            model.set_submodule(name, adapters[-1])
        return adapters

    @override
    @classmethod
    def putting_in(cls, settings: MethodSettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
        imported = f"from {cls.__module__} import {cls.__name__}"
        return (imported,), (f"{cls.__name__}.insert(model, size={cls.size_in(settings)})",)

    @override
    def prepare(self, model: PreTrainedModel, head: Sequence[str]) -> None:
        for adapter in self.insert(model, self.size):
            for part in (adapter.down, adapter.up):
                part.requires_grad_(True)
        for parameter in head_parameters(model, head):
            parameter.requires_grad_(True)

    @override
    def identity(self) -> list[object]:
        return [*super().identity(), self.size]


class Houlsby(BottleneckMethod):
    """Houlsby et al. (ICML 2019): one adapter after the attention's output projection and one after the feed-forward's.

    The weights and biases of all layer norms are trained too, as in the paper, where they are new ones for each task.
    """

    after = (ATTENTION, FEED_FORWARD)
    activation = nn.GELU

    @override
    def prepare(self, model: PreTrainedModel, head: Sequence[str]) -> None:
        super().prepare(model, head)
        for norm in norms(model):
            norm.requires_grad_(True)


class Pfeiffer(BottleneckMethod):
    """Pfeiffer et al. (EACL 2021): one adapter after the feed-forward's output projection; no layer norms."""

    after = (FEED_FORWARD,)
    activation = nn.ReLU


def norms(model: nn.Module) -> Iterator[nn.Module]:
    """Layer norms of whatever kind: LayerNorm, LlamaRMSNorm and such."""
    for module in model.modules():
        if type(module).__name__.endswith(("LayerNorm", "RMSNorm")):
            yield module


def output_projections(model: nn.Module, after: Sequence[str], method: str) -> list[str]:
    """The full names of every layer's output projections, of its ATTENTION or FEED_FORWARD or both.

    Raises UserError where a layer lacks one of them, or where there is none at all.
    """
    found: dict[str, dict[str, str]] = {}
    for name, module in model.named_modules():
        layer, part = _in_layer(name)
        for what, parts in OUTPUTS.items():
            if layer and part in parts and isinstance(module, nn.Linear | Conv1D):
                found.setdefault(layer, {})[what] = name
    # A stack of layers has all of its layers adapted or none: no layer of another kind goes unnoticed.
    stacks = {layer.rpartition(".")[0]: None for layer in found}
    layers = [f"{stack}.{i}" for stack in stacks for i, _ in enumerate(model.get_submodule(stack).children())]
    for layer in layers or [type(model).__name__]:
        for what in after:
            if what not in found.get(layer, {}):
                raise UserError(_missing(method, layer, what, found))
    return [found[layer][what] for layer in layers for what in after]


def _in_layer(name: str) -> tuple[str, str]:
    """A module's name parted behind the last number in it: (``bert.encoder.layer.0``, ``output.dense``)."""
    parts = name.split(".")
    last = max((i for i, part in enumerate(parts) if part.isdigit()), default=-1) + 1
    return ".".join(parts[:last]), ".".join(parts[last:])


def _missing(method: str, layer: str, what: str, found: Mapping[str, Mapping[str, str]]) -> str:
    others = ", ".join(found.get(layer, {}).values())
    return (
        f"method {method!r} puts adapters behind output projections, and found none of the {what} in {layer}"
        f"{f', only {others}' if others else ''}; looked for a linear layer called {', '.join(OUTPUTS[what])}"
    )
