"""The LoRA of a model at the ranks of another configuration, in place: what a squeezed checkpoint is loaded into."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import BaseTuner

from autolora.allocation.compress import rewrite
from autolora.integrations.batches import undisturbed
from autolora.lora.adapter import PREFIX, lora_layers


def reshape(model: PeftModel, adapter: str, config: LoraConfig) -> None:
    """Give every layer the rank and scaling of a configuration; layers that it does not target lose their LoRA.

    The factors are new parameters, drawn: their values are to be loaded. What else is trained (a head) stays as it is.

    Args:
        model: With one adapter, not merged.
        adapter: Its name.
        config: As PEFT stores it.
    """
    for name, layer in lora_layers(model).items():
        model.set_submodule(PREFIX + name, layer.get_base_layer())
    trained = {parameter: parameter.requires_grad for parameter in model.parameters()}
    mode = model.training
    wanted = copy.deepcopy(config)
    wanted.inference_mode = False
    # Others, such as PiSSA's, would take the adapter's first values out of the base model's weights once more.
    wanted.init_lora_weights = True
    tuner = cast(BaseTuner, model.base_model)
    tuner.peft_config[adapter] = wanted
    tuner.targeted_module_names = []
    with undisturbed(0):
        tuner.inject_adapter(cast(torch.nn.Module, tuner.model), adapter)
    wanted.init_lora_weights = config.init_lora_weights
    for parameter, flag in trained.items():
        parameter.requires_grad_(flag)
    model.train(mode)


def of_ranks(model: PeftModel, adapter: str, ranks: dict[str, int]) -> LoraConfig:
    """The configuration of a model's adapter with fewer components a layer, each at the scaling that it has.

    Args:
        model: With the adapter on every layer that `ranks` names.
        adapter: Its name.
        ranks: Above 0, by full module name; other layers are left out.
    """
    config: Any = copy.deepcopy(model.peft_config[adapter])
    layers = lora_layers(model)
    rewrite(config, model, ranks, {name: float(layers[name].scaling[adapter]) for name in ranks})
    return cast(LoraConfig, config)
