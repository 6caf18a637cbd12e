"""LoRA at one rank per layer, as a stock PEFT adapter.

PEFT goes on silently where names or ranks do not fit (a misspelt pattern gets the default rank, a changed rank changes
the scaling), so every pattern is anchored on a full module name, and each layer's rank and scaling are asserted
afterwards. Layers of rank 0 are left out of the targets, as PEFT refuses rank 0.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from autolora.files import replace_folder, write_json
from autolora.lora.config import exact_type
from autolora.lora.frozen import as_float32, stands_in, widen_rest
from autolora.lora.ranks import Ranks
from autolora.lora.stored import CARD

PREFIX = "base_model.model."  # of every module's name in PEFT's wrapping


def add_adapter(model: PreTrainedModel, ranks: Ranks, config: LoraConfig) -> PeftModel:
    """Put the adapter on the model, and make sure that it is the one that was asked for.

    Args:
        model: The pretrained model; its layers are replaced in place.
        ranks: What the adapter must have.
        config: From `lora_config`.

    Raises:
        RuntimeError: PEFT made another one.
    """
    exact_type(model, config)
    with as_float32(model):
        adapted = get_peft_model(model, config)
    widen_rest(adapted)
    _set_magnitudes(adapted)
    assert_ranks(adapted, ranks)
    return adapted


@torch.no_grad()
def _set_magnitudes(adapted: nn.Module) -> None:
    """Let DoRA's magnitudes begin as the norms of W, of which PEFT has seen stand-ins where it is kept in 16 bits.

    B is zero, so that these are the norms of W + s B A. Of layers that bitsandbytes quantises PEFT has seen the weights
    as they are; it de-quantises them in its forward pass in the same way.
    """
    layers: dict[str, Any] = {**lora_layers(adapted)}
    for layer in layers.values():
        base = layer.get_base_layer()
        if stands_in(base):
            for magnitude in layer.lora_magnitude_vector.values():
                magnitude.weight.copy_(torch.linalg.norm(base.wide(torch.float32), dim=1))


def assert_ranks(adapted: nn.Module, ranks: Ranks) -> None:
    """Make sure that each layer has exactly its rank and scaling.

    Raises:
        RuntimeError: One has not.
    """
    found = {name: (layer.r["default"], layer.scaling["default"]) for name, layer in lora_layers(adapted).items()}
    wanted = {name: (ranks[name], ranks.scale(name)) for name in ranks.targets}
    if found.keys() != wanted.keys():
        raise RuntimeError(f"the adapter is on {sorted(found)}, but was meant for {sorted(wanted)}")
    for name, (rank, scale) in wanted.items():
        if found[name][0] != rank or not math.isclose(found[name][1], scale):
            raise RuntimeError(f"{name}: rank and scaling are {found[name]}, but should be {(rank, scale)}")


def lora_layers(adapted: nn.Module) -> dict[str, LoraLayer]:
    """PEFT's LoRA layers by the full name that the module has in the model itself.

    Args:
        adapted: In PEFT's wrapping.
    """
    return {base_name(name): layer for name, layer in adapted.named_modules() if isinstance(layer, LoraLayer)}


def lora_parameters(adapted: nn.Module) -> dict[str, nn.Parameter]:
    """What is trained of a LoRA, by its name in PEFT's wrapping.

    Args:
        adapted: In PEFT's wrapping.
    """
    return {name: each for name, each in adapted.named_parameters() if each.requires_grad and "lora_" in name}


def base_name(name: str) -> str:
    """A module's or parameter's name in the model itself, from its name in PEFT's wrapping or already without it."""
    return name.removeprefix(PREFIX)


def in_adapter(adapted: nn.Module, name: str) -> Any:
    """The module of an adapted model that has this full name in the model itself.

    Args:
        adapted: In PEFT's wrapping.
        name: Without the wrapping.
    """
    return adapted.get_submodule(PREFIX + name)


@torch.no_grad()
def set_factors(adapted: nn.Module, name: str, a: Tensor, b: Tensor | None = None) -> None:
    """Put values into a LoRA layer.

    Args:
        adapted: In PEFT's wrapping.
        name: The layer's full name in the model itself.
        a: A, of shape (r, n).
        b: B, of shape (m, r); None: it stays as it is.
    """
    layer = in_adapter(adapted, name)
    layer.lora_A["default"].weight.copy_(a)
    if b is not None:
        layer.lora_B["default"].weight.copy_(b)


def save_adapter(
    adapted: PeftModel, path: Path, base: str, revision: str | None = None, state: Mapping[str, Tensor] | None = None
) -> None:
    """Write the adapter beside its place and swap it in, so that there is never half of one.

    A model card that is there stays; PEFT's, which is an empty form, is not written.

    Args:
        adapted: In PEFT's wrapping.
        path: The adapter's folder.
        base: The pretrained model, as the adapter should name it.
        revision: Its revision on the hub.
        state: By the names of the adapted model, what is written instead of its own tensors.
    """
    config = adapted.peft_config["default"]
    config.base_model_name_or_path, config.revision = base, revision
    with replace_folder(path, keep=[CARD]) as fresh, warnings.catch_warnings():
        # PEFT takes a layer that AdaLoRA has left nothing of for one whose shards were not gathered, which ours are.
        warnings.filterwarnings("ignore", message=r".*LoRA tensor\(s\) have invalid shape")
        adapted.save_pretrained(
            str(fresh), save_embedding_layers=False, state_dict=state
        )  # the vocabulary is the base model's
        _sort_config(fresh / "adapter_config.json")
        # The model's class, the head's size and the names of its classes, which the base model's own configuration
        # does not have.
        model = cast(PreTrainedModel, adapted.get_base_model())
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(str(fresh))


def _sort_config(path: Path) -> None:
    """PEFT writes sets in an order that changes from process to process; the same run should give the same bytes."""
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("target_modules", "modules_to_save"):
        if isinstance(config.get(key), list):  # a prefix has neither
            config[key] = sorted(set(config[key]))
    write_json(path, config)


def uses_conv1d(model: nn.Module, names: Sequence[str]) -> bool:
    """Whether the layers keep their weights transposed, as GPT-2's do.

    Args:
        model: The pretrained model.
        names: Full names of the layers.
    """
    return any(isinstance(model.get_submodule(name), Conv1D) for name in names)
