"""A stored adapter put into a model that was adapted as for its training, if it is exactly that adapter.

wanted = adapter_shapes(model, ranks, head)
adapted = add_adapter(model, ranks, lora_config(ranks, head=head))
load_adapter(adapted, folder, wanted, ranks, head)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from autolora.errors import UserError
from autolora.lora.adapter import base_name
from autolora.lora.ranks import Ranks
from autolora.lora.stored import (
    CONFIG,
    TENSORS,
    WRAPPED,
    Shape,
    config_faults,
    lora_shapes,
    read_config,
    read_shapes,
    tensor_faults,
)
from autolora.lora.targets import input_output_features

# Where the configuration may differ: what `config_faults` looks at, and what has no bearing on what is computed.
EXEMPT = {
    *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "target_modules", "modules_to_save"),
    *("base_model_name_or_path", "revision", "inference_mode", "auto_mapping", "lora_dropout", "peft_version"),
}

INNER = ("lora_A", "lora_B", "base_layer", "original_module", "modules_to_save")  # PEFT's own parts of a module


def adapter_shapes(model: nn.Module, ranks: Ranks, head: Sequence[str]) -> dict[str, Shape]:
    """The tensors of an adapter on a model, by the name in PEFT's file.

    Args:
        model: The pretrained model, not adapted yet.
        ranks: The rank by full module name.
        head: Full names of the modules that are trained in full.
    """
    shapes = {name: input_output_features(model.get_submodule(name)) for name in ranks.targets}
    return {**lora_shapes(ranks, shapes), **head_shapes(model, head)}


def head_shapes(model: nn.Module, head: Sequence[str]) -> dict[str, Shape]:
    """The head's tensors by the name in PEFT's file.

    Args:
        model: The pretrained model, not adapted yet.
        head: Full names of the modules that are trained in full.
    """
    return {
        f"{WRAPPED}{name}.{inner}": tuple(tensor.shape)
        for name in head
        for inner, tensor in model.get_submodule(name).state_dict().items()
    }


def peft_shapes(adapted: PeftModel) -> dict[str, Shape]:
    """The tensors that PEFT saves of an adapted model, by the name in its file.

    Args:
        adapted: In PEFT's wrapping.
    """
    saved = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    return {name: tuple(tensor.shape) for name, tensor in saved.items()}


def load_adapter(
    adapted: PeftModel, folder: Path, wanted: Mapping[str, Shape], ranks: Ranks, head: Sequence[str]
) -> None:
    """Load an adapter's tensors in place, and freeze the model.

    Args:
        adapted: The model, adapted as for the training.
        folder: The adapter's.
        wanted: From `adapter_shapes`.
        ranks: What it was adapted with.
        head: Likewise.

    Raises:
        UserError: A file cannot be read, or what it holds is not what is wanted.
    """
    config, own = read_config(folder), adapted.peft_config["default"].to_dict()
    faults = chain(other_settings(config, own), config_faults(config, ranks, head, linear_layers(adapted)))
    check(folder / CONFIG, faults)
    check_tensors(folder, wanted)
    set_peft_model_state_dict(adapted, load_file(folder / TENSORS))
    adapted.requires_grad_(False).eval()


def linear_layers(adapted: PeftModel) -> list[str]:
    """Full names, in the model itself, of what LoRA could adapt.

    Args:
        adapted: In PEFT's wrapping.
    """
    kinds = (nn.Linear, Conv1D, LoraLayer)
    names = (base_name(name) for name, module in adapted.named_modules() if isinstance(module, kinds))
    return [name for name in names if not any(part in INNER for part in name.split("."))]


def check_tensors(folder: Path, wanted: Mapping[str, Shape]) -> None:
    """Make sure that an adapter has exactly these tensors.

    Args:
        folder: The adapter's.
        wanted: Shapes by the name in PEFT's file.

    Raises:
        UserError: The file cannot be read, or one of them is missing, too much or of another shape.
    """
    check(folder / TENSORS, tensor_faults(read_shapes(folder), wanted))


def check(path: Path, faults: Iterator[str]) -> None:
    """Make sure that there is none.

    Args:
        path: The file that they are in.
        faults: What is wrong with it.

    Raises:
        UserError: With the first one.
    """
    try:
        found = list(faults)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is no configuration of such an adapter ({type(error).__name__}: {error})") from error
    if found:
        more = f" (and {len(found) - 1} faults more)" if len(found) > 1 else ""
        raise UserError(f"{path} is not what was trained: {found[0]}{more}")


def other_settings(config: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[str]:
    """Settings of PEFT's that are not those of the training; a later or earlier PEFT has more of them, or fewer.

    Args:
        config: The content of adapter_config.json.
        own: What PEFT's configuration is when it is made for the training.
    """
    for key in sorted(config.keys() & own.keys() - EXEMPT):
        if _plain(config[key]) != _plain(own[key]):
            yield f"{key} is {config[key]!r}, but should be {_plain(own[key])!r}"


def _plain(value: object) -> object:
    """As it is in JSON."""
    if isinstance(value, set):
        return sorted(value)
    return value.value if isinstance(value, Enum) else json.loads(json.dumps(value, default=str))
