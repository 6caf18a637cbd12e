"""A trained PEFT LoRA cut down in place to the components that were chosen, with a configuration that says so.

Kept components become A = √(σ/s) vᵀ and B = u √(σ/s) at the scaling s that the layer had: the same update with nothing
dropped, and balanced factors to train on. Layers that keep nothing become plain layers again, as PEFT refuses rank 0.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from autolora.allocation.components import Components, adapter_of
from autolora.errors import UserError
from autolora.lora.adapter import PREFIX, lora_layers
from autolora.lora.config import anchored, changes_base, exact_targets
from autolora.lora.ranks import SCALINGS, Ranks

Replaced = dict[nn.Parameter, nn.Parameter | None]
"""The old parameters, and what took their places; None where the layer has no LoRA any more."""


class Layer(Protocol):
    """What ranks say of a layer; `Components` do."""

    @property
    def rank(self) -> int:
        """k, the rank that it was trained at."""

    @property
    def scaling(self) -> float:
        """What the product of its factors is multiplied by, s."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m), input and output features."""


def check_config(config: LoraConfig) -> None:
    """Make sure that an adapter with fewer components can be saved and loaded by the same configuration.

    Args:
        config: The adapter's.

    Raises:
        UserError: A setting of it depends on the rank, or on which layers have LoRA; or a scaling is negative.
    """
    for alpha in (config.lora_alpha, *(config.alpha_pattern or {}).values()):
        _check_scaling("lora_alpha", alpha)
    if config.bias == "lora_only":
        raise UserError("an adapter with bias='lora_only' cannot be squeezed: a layer without LoRA would lose its bias")
    if changes_base(config.init_lora_weights):
        raise UserError(
            f"an adapter with init_lora_weights={str(config.init_lora_weights)[:80]!r} cannot be squeezed: PEFT "
            "changes the base model's weights by it when it makes or loads one, and by another rank it would change "
            "them differently; train with another init_lora_weights, or make a plain LoRA of it first: "
            "save_pretrained(…, path_initial_model_for_weight_conversion=…), loaded on the pretrained model"
        )


def ranks_of(layers: Mapping[str, Layer], kept: Mapping[str, Sequence[int]], **rule: object) -> Ranks:
    """The ranks of kept components, at the scaling of the layers.

    Args:
        layers: By full module name.
        kept: Indices of the components that stay, by the same names.
        rule: What gave the ranks, JSON-able.

    Raises:
        UserError: A scaling is negative, or not finite.
    """
    rank = max(each.rank for each in layers.values())
    scalings = {name: each.scaling for name, each in layers.items()}
    for name, scaling in scalings.items():
        _check_scaling(f"{name}: the scaling", scaling)
    differ = {SCALINGS: scalings} if len(set(scalings.values())) > 1 else {}  # what one lora_alpha cannot say
    return Ranks(
        {name: len(kept[name]) for name in layers},
        initial_rank=rank,
        lora_alpha=next((each for each in scalings.values() if each), 1.0) * rank,
        shapes={name: each.shape for name, each in layers.items()},
        kept={name: tuple(kept[name]) for name in layers},
        rule={**rule, **differ},
    )


def _check_scaling(what: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise UserError(
            f"{what}: must be a finite number from 0, got {value}; of a negative one take the positive, and negate "
            "every lora_B (lora_B.weight.neg_()), which is the same LoRA"
        )


def compress(adapted: PeftModel, components: Mapping[str, Components], kept: Mapping[str, Sequence[int]]) -> Replaced:
    """Replace every LoRA layer's factors by those of its kept components, and rewrite PEFT's configuration.

    Args:
        adapted: With one adapter, not merged; changed in place.
        components: Of its LoRA layers as they are now, by full module name.
        kept: Indices of the components that stay, by the same names.

    Raises:
        UserError: No component is kept, or as `check_config`.
    """
    if not any(kept.values()):
        raise UserError("no component is kept: the budget is smaller than one component of any layer; raise it")
    layers = lora_layers(adapted)
    (adapter,) = {adapter_of(name, layer) for name, layer in layers.items()}
    config = cast(LoraConfig, adapted.peft_config[adapter])
    check_config(config)
    replaced: Replaced = {}
    for name, layer in layers.items():
        if kept[name]:
            replaced |= _cut(layer, adapter, components[name], kept[name])
        else:
            replaced |= dict.fromkeys(_weights(layer, adapter), None)
            adapted.set_submodule(PREFIX + name, layer.get_base_layer())
    ranks = {name: len(each) for name, each in kept.items() if each}
    # A copy: the one that the model was made with is the user's, who may make the next model with it.
    adapted.peft_config[adapter] = config = copy.deepcopy(config)
    rewrite(config, adapted, ranks, {name: components[name].scaling for name in ranks})
    tuner = cast(BaseTuner, adapted.base_model)
    tuner.targeted_module_names = [name for name in tuner.targeted_module_names if kept.get(name, True)]
    return replaced


def _linears(layer: LoraLayer, adapter: str) -> tuple[nn.Linear, nn.Linear]:
    """The modules that hold A and B."""
    return cast(nn.Linear, layer.lora_A[adapter]), cast(nn.Linear, layer.lora_B[adapter])


def _weights(layer: LoraLayer, adapter: str) -> list[nn.Parameter]:
    return [cast(nn.Parameter, linear.weight) for linear in _linears(layer, adapter)]


@torch.no_grad()
def _cut(layer: LoraLayer, adapter: str, components: Components, kept: Sequence[int]) -> Replaced:
    replaced: Replaced = {}
    for linear, old, values in zip(
        _linears(layer, adapter), _weights(layer, adapter), components.factors(kept), strict=True
    ):
        new = nn.Parameter(values.to(old).contiguous(), requires_grad=old.requires_grad)
        linear.weight, (linear.out_features, linear.in_features) = new, values.shape
        replaced[old] = new
    rank = len(kept)
    layer.r[adapter], layer.lora_alpha[adapter] = rank, components.scaling * rank
    layer.use_rslora[adapter] = False  # alpha / rank is the scaling that the layer has
    return replaced


def rewrite(config: LoraConfig, adapted: nn.Module, ranks: Mapping[str, int], scalings: Mapping[str, float]) -> None:
    """Make PEFT's configuration that of these ranks and scalings; whatever else chose layers says nothing any more.

    Args:
        config: Changed in place.
        adapted: The model that it is for.
        ranks: Above 0, by full module name; other layers are no targets.
        scalings: By the same names.
    """
    config.r = max(ranks.values())
    largest = next(name for name, rank in ranks.items() if rank == config.r)
    config.lora_alpha = scalings[largest] * config.r  # type: ignore[assignment]  # any number will do
    config.use_rslora = False
    uniform = len(set(ranks.values())) == len(set(scalings.values())) == 1  # said without patterns: not all read them
    config.rank_pattern = {} if uniform else {anchored(name): rank for name, rank in ranks.items()}
    config.alpha_pattern = {} if uniform else {anchored(name): scalings[name] * rank for name, rank in ranks.items()}
    config.init_lora_weights = True  # others are for a beginning, and some take certain ranks only
    config.eva_config = None
    config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
    config.target_modules = exact_targets(adapted, list(ranks))
