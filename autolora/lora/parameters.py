"""How many parameters are trained, and how many of them are the head's."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from autolora.lora.adapter import base_name


def trainable_parameters(model: torch.nn.Module, head: Sequence[str] = ()) -> dict[str, int]:
    """How many parameters are trained, and how many of them belong to the head's modules.

    Args:
        model: Adapted, in PEFT's wrapping or not.
        head: Full names of the head's modules, without PEFT's wrapping.

    Returns:
        The manifest entries "trainable_parameters" and "head_parameters".
    """
    counts = {"trainable_parameters": 0, "head_parameters": 0}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            counts["trainable_parameters"] += parameter.numel()
            counts["head_parameters"] += parameter.numel() if in_head(name, head) else 0
    return counts


def in_head(parameter: str, head: Sequence[str]) -> bool:
    """Whether a parameter's full name, PEFT's wrapping or not, lies in one of the head's modules.

    Args:
        parameter: The full name.
        head: Full names of the modules, without PEFT's wrapping.
    """
    name = f".{base_name(parameter)}"
    return any(name.startswith(f".{module}.") for module in head)
