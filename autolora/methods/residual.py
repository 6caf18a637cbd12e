"""LoRA that begins with a part of the pretrained weights, which are trained without it: ``pissa`` and ``olora``.

W: (m, n)  a target layer's weights   A, B  the factors, of shapes (r, n) and (m, r)   s  their scaling
A₀, B₀  what they begin as

    y = (W - s B₀ A₀) x + s B A x        at the beginning, and with A = A₀ and B = B₀, that of the pretrained model

- ``pissa:R`` (Meng et al. 2024): W = U diag(σ) Vᵀ; A₀ = diag(√(σ / s)) Vᵀ, B₀ = U diag(√(σ / s)), of the r largest σ.
- ``olora:R`` (Büyükakyüz 2024): W = Q R; A₀ is the first r rows of R, B₀ the first r columns of Q.

Both are what PEFT computes, to the bit; PEFT's OLoRA takes the weights of GPT-2's Conv1D layers, which are stored
transposed, for those of linear layers, and here they are turned first. A₀ and B₀ are kept beside the checkpoint: a
resumed run has the same W - s B₀ A₀, whatever a decomposition would give the second time.

What is written is the difference to the pretrained weights, s (B A - B₀ A₀), as plain LoRA of rank 2 r on the model as
everybody has it: factors [A; A₀] and [B, -B₀], at the scaling s. That is what PEFT converts such adapters to, too, but
PEFT drops a trained head on the way. The parameters that are counted are those that are trained, of rank r. Where the
base is in bfloat16, W - s B₀ A₀ is rounded to it, and what is written differs from what was trained by that rounding.
"""

from __future__ import annotations

import copy
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D
from typing_extensions import override

from autolora.context.base import Context
from autolora.context.steps import add_seconds
from autolora.errors import UserError
from autolora.lora.adapter import PREFIX, in_adapter, save_adapter, set_factors
from autolora.lora.config import lora_config
from autolora.lora.ranks import STORED, Ranks
from autolora.methods.variants import OneRank
from autolora.model.load import base_name
from autolora.recipe.schema import Recipe
from autolora.training.checkpoint import load_checkpoint, read_record, save_checkpoint
from autolora.training.finetune import Training

FLOATING = (torch.float32, torch.bfloat16, torch.float16)
Factors = tuple[Tensor, Tensor]  # A (r, n), B (m, r)


class Residual(OneRank):
    """LoRA whose beginning is taken out of the pretrained weights; what is written is of twice the rank."""

    @staticmethod
    @abstractmethod
    def factors(weight: Tensor, rank: int, scaling: float) -> Factors:
        """A₀ and B₀.

        Args:
            weight: W, of shape (m, n), in float32.
            rank: r.
            scaling: s.
        """

    @classmethod
    @override
    def check_recipe(cls, recipe: Recipe) -> None:
        super().check_recipe(recipe)
        name, kept = recipe.method.name, recipe.model.quantization
        if kept is not None:
            raise UserError(
                f"model.quantization: {name} takes a part out of the pretrained weights, and what is left would be "
                f"rounded to {kept} again; leave it out, or take lora:{recipe.method.size}"
            )

    @override
    def scaled(self, ranks: Ranks) -> Ranks:
        return replace(super().scaled(ranks), rule={STORED: 2 * self.size})

    @override
    def training(self, ranks: Ranks, model: PreTrainedModel, head: Sequence[str], context: Context) -> Training:
        _check_layers(self.settings.name, model, ranks.targets)
        first = self._first(ranks, model, context)
        adapted = self.at_ranks(ranks, model, head, context)
        for name in ranks.targets:
            a, b = _pair(first, name)
            set_factors(adapted, name, a, b)
            take_out(in_adapter(adapted, name).base_layer, a, b, ranks.scale(name))
        return Training(adapted)

    @property
    def _kept(self) -> Path:
        return self.run.path / "retrain" / "first" / "checkpoint.safetensors"

    def _first(self, ranks: Ranks, model: PreTrainedModel, context: Context) -> dict[str, Tensor]:
        """A₀ and B₀ of every layer by "A/" or "B/" and its name, as they were when they were first computed."""
        path = self._kept
        identity = context.identity(self.settings.name, ranks.to_json())
        if context.main and not (path.exists() and read_record(path).get("identity") == identity):
            begun, found = time.monotonic(), {}
            for name in ranks.targets:
                weight = _upright(model.get_submodule(name)).float()
                found[f"A/{name}"], found[f"B/{name}"] = self.factors(weight, ranks[name], ranks.scale(name))
            add_seconds(self.run, "retrain", time.monotonic() - begun)
            save_checkpoint(path, found, {"identity": identity})
        context.compute.wait()
        return load_checkpoint(path)[0]

    @override
    def save(self, trained: nn.Module, head: Sequence[str], context: Context) -> None:
        assert isinstance(trained, PeftModel)
        ranks = self.run.ranks()
        first, state = load_checkpoint(self._kept)[0], dict(trained.state_dict())
        for name in ranks.targets:
            (a, b), keys = _pair(first, name), [f"{PREFIX}{name}.lora_{x}.default.weight" for x in "AB"]
            state[keys[0]] = torch.cat([state[keys[0]], a.to(state[keys[0]])])
            state[keys[1]] = torch.cat([state[keys[1]], -b.to(state[keys[1]])], dim=1)
        own, wide = trained.peft_config["default"], lora_config(ranks.at(2 * self.size))
        changed = copy.deepcopy(own)
        for key in ("r", "lora_alpha", "rank_pattern", "alpha_pattern"):
            setattr(changed, key, getattr(wide, key))
        trained.peft_config["default"] = changed
        try:
            save_adapter(trained, self.run.path / "adapter", *base_name(context.pretrained), state)
        finally:
            trained.peft_config["default"] = own

    @override
    def load(self, base: PreTrainedModel, context: Context) -> nn.Module:
        return self.load_at(self.run.ranks().at(2 * self.size), base, context)

    @override
    def parameters(self, trained: nn.Module, head: Sequence[str]) -> dict[str, int]:
        """Those of rank r, which are trained; what is stored beside the head is twice that."""
        counts = super().parameters(trained, head)
        stored = 2 * (counts["trainable_parameters"] - counts["head_parameters"])
        return {**counts, "stored_parameters": stored + counts["head_parameters"]}


class Pissa(Residual):
    """Begins with the principal singular components of the weights."""

    @staticmethod
    @override
    def factors(weight: Tensor, rank: int, scaling: float) -> Factors:
        u, sigma, v = torch.linalg.svd(weight, full_matrices=False)
        root = torch.diag(torch.sqrt(sigma[:rank] / scaling))
        return root @ v[:rank], u[:, :rank] @ root


class Olora(Residual):
    """Begins with an orthonormal B: the leading columns of a QR decomposition."""

    @staticmethod
    @override
    def factors(weight: Tensor, rank: int, scaling: float) -> Factors:
        q, r = torch.linalg.qr(weight)
        return r[:rank].contiguous(), q[:, :rank].contiguous()


@torch.no_grad()
def take_out(layer: nn.Module, a: Tensor, b: Tensor, scaling: float) -> None:
    """W - s B₀ A₀, in the place of W.

    Args:
        layer: The pretrained layer.
        a: A₀.
        b: B₀.
        scaling: s.
    """
    weight: Any = layer.weight
    left = _upright(layer).float() - scaling * b.to(weight.device) @ a.to(weight.device)
    weight.data = (left.T if isinstance(layer, Conv1D) else left).contiguous().to(weight.dtype)


def _upright(layer: Any) -> Tensor:
    """W of shape (m, n), however it is stored."""
    weight: Tensor = layer.weight.data
    return weight.T if isinstance(layer, Conv1D) else weight


def _pair(first: Mapping[str, Tensor], name: str) -> Factors:
    return first[f"A/{name}"], first[f"B/{name}"]


def _check_layers(method: str, model: nn.Module, names: Sequence[str]) -> None:
    """Raises UserError where a part of a layer's weights cannot be taken out of them, or would be missed elsewhere."""
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name)
    for name in names:
        layer = model.get_submodule(name)
        weight = getattr(layer, "weight", None)
        if (
            not isinstance(layer, nn.Linear | Conv1D)
            or type(weight) is not nn.Parameter
            or weight.dtype not in FLOATING
        ):
            raise UserError(
                f"{method}: {name} is a {type(layer).__name__} with weights of {getattr(weight, 'dtype', 'no type')}, "
                "and a part of them cannot be taken out exactly; load the model without quantization, leave the layer "
                "out of the targets, or take lora"
            )
        if others := [each for each in owners[id(weight)] if each != f"{name}.weight"]:
            raise UserError(
                f"{method}: {name} shares its weights with {others[0]}, which would lose what the adapter begins with; "
                "leave it out of the targets, or take lora"
            )
