"""Weights that several modules of a model share, where an adapter changes one of the modules only.

before = shared_weights(model)      # of the pretrained model
untie(adapted, before)              # each module that the adapter changes gets a copy of its own
...                                 # merged
settle_ties(model, before, tied)    # what is equal again is shared again; else the configuration says so

PEFT merges into the weight that is there. If output embeddings are the input's, an update of one of the two would come
into the other, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from transformers import PreTrainedModel

from autolora.lora.adapter import base_name

Groups = list[list[str]]
"""Full names of the parameters that are one."""


def shared_weights(model: nn.Module) -> Groups:
    """The names of each parameter that has more than one.

    Args:
        model: Without PEFT's wrapping.
    """
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def untie(adapted: PeftModel, groups: Groups) -> None:
    """Give the modules that an adapter changes weights of their own, in place.

    Args:
        adapted: With the adapter's weights in it, not merged.
        groups: From `shared_weights` of the model before.
    """
    changed = dict(_changed(adapted))
    for name in (name for group in groups for name in group):
        module, _, inner = name.rpartition(".")
        if module in changed:
            layer = innermost(changed[module])
            setattr(layer, inner, nn.Parameter(getattr(layer, inner).detach().clone(), requires_grad=False))


def _changed(adapted: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in adapted.named_modules(remove_duplicate=False):
        if isinstance(module, AuxiliaryTrainingWrapper):
            if hasattr(module, "token_adapter"):  # a module that is trained in full is a copy already
                yield base_name(name), cast(nn.Module, module.token_adapter)
        elif isinstance(module, BaseTunerLayer):
            yield base_name(name), cast(nn.Module, module)


def innermost(layer: nn.Module) -> nn.Module:
    """The pretrained module within PEFT's layers.

    Args:
        layer: One of them, or the module itself.
    """
    while isinstance(layer, BaseTunerLayer):
        layer = layer.base_layer  # type: ignore[assignment]
    return layer


def settle_ties(model: PreTrainedModel, groups: Groups, tied: bool) -> str | None:
    """Share what is equal; where something is not, let nothing be shared, and the configuration say so.

    Args:
        model: Merged, without PEFT's wrapping.
        groups: From `shared_weights` of the model before.
        tied: What its configuration said of its embeddings then.

    Returns:
        What has to be said about it.
    """
    apart = [name for group in groups for name in _apart(model, group)]
    model.config.tie_word_embeddings = tied and not apart  # PEFT sees the copies, and says that they are none
    if apart:
        model.config.get_text_config().tie_word_embeddings = False
    always = _tied_by_class(model) if apart else {}
    for group in groups:
        for name in group[1:]:
            module, _, inner = name.rpartition(".")
            other = model.get_parameter(always.get(name, group[0]))
            if name not in apart and (not apart or name in always):
                setattr(model.get_submodule(module), inner, other)
            else:
                own = nn.Parameter(model.get_parameter(name).detach().clone(), requires_grad=False)
                setattr(model.get_submodule(module), inner, own)
    if not apart:
        return None
    return (
        f"the adapter changes only some of the modules that share a weight in the base model ({', '.join(groups[0])}); "
        "they share it no longer (tie_word_embeddings: false)"
    )


def _tied_by_class(model: PreTrainedModel) -> dict[str, str]:
    """What transformers makes one whatever the configuration says: name by name."""
    config = type(model.config).from_dict(model.config.to_dict())  # as it will be read: T5's shares them anyway
    with torch.device("meta"):
        ties: dict[str, str] = type(model)._from_config(config).all_tied_weights_keys
    return ties


def _apart(model: nn.Module, group: list[str]) -> list[str]:
    """Those that differ from the first of a group."""
    first = model.get_parameter(group[0])
    others = {name: model.get_parameter(name) for name in group[1:]}
    return [name for name, other in others.items() if other is not first and not torch.equal(other, first)]


def tied_apart(model: nn.Module, ties: dict[str, str]) -> list[str]:
    """What transformers will make one when it loads a model, though it is not.

    Args:
        model: As it is.
        ties: Name by name, as transformers says of the model that it loads.
    """
    return [name for name, other in ties.items() if model.get_parameter(name) is not model.get_parameter(other)]
