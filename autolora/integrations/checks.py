"""What a squeeze in the middle of a training would fail at, found before its first step: ``check(model, …)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn

from autolora.allocation.budget import Budget
from autolora.allocation.components import adapter_of
from autolora.allocation.compress import check_config
from autolora.allocation.likelihood import Likelihood, Predictive
from autolora.errors import UserError
from autolora.lora.adapter import lora_layers, lora_parameters
from autolora.training.optimizers import check_held


def check(model: Any, budget: Budget, likelihood: Likelihood | None) -> PeftModel:
    """Make sure that a model can be squeezed.

    Args:
        model: The trainer's, without the wrapping of other packages.
        budget: What it is to be cut down to.
        likelihood: Of its predictions, or None.

    Returns:
        It.

    Raises:
        UserError: It cannot; the message says what it is about.
    """
    if not isinstance(model, PeftModel):
        raise UserError(
            f"SqueezeCallback needs a model with LoRA (peft.get_peft_model, or SFTTrainer's peft_config), got a "
            f"{type(model).__name__}"
        )
    layers = lora_layers(model)
    if not layers:
        raise UserError("the model has no LoRA layer to squeeze")
    adapters = {adapter_of(name, layer) for name, layer in layers.items()}
    for adapter in adapters:
        check_config(cast(LoraConfig, model.peft_config[adapter]))
    base = model.get_base_model()
    if getattr(base, "is_quantized", False) or getattr(base, "hf_quantizer", None) is not None:
        raise UserError(
            "the base model is quantised, and squeezing inside a training is not supported there; train with the base "
            "in bfloat16, or squeeze the finished adapter"
        )
    Predictive(model, base, likelihood)
    _check_budget(budget, layers)
    return model


def _check_budget(budget: Budget, layers: Mapping[str, LoraLayer]) -> None:
    """A budget of a fixed size buys one component at least."""
    if budget.tolerance is not None:
        return
    costs, full = {}, 0
    for name, layer in layers.items():
        adapter = adapter_of(name, layer)
        a, b = cast(nn.Linear, layer.lora_A[adapter]), cast(nn.Linear, layer.lora_B[adapter])
        costs[name] = a.in_features + b.out_features
        full += a.weight.numel() + b.weight.numel()
    limit, least = budget.limit(costs, full), min(costs.values())
    if limit < least:
        raise UserError(
            f"budget {budget.given}: that is {limit} parameters of {full}, and the smallest component has {least}; "
            "raise it"
        )


def check_labels(budget: Budget, batch: Any, given: bool) -> None:
    """A tolerance is measured by a loss, which the batches must have labels for.

    Args:
        budget: Any.
        batch: The first one.
        given: Whether the user gave a loss of their own.

    Raises:
        UserError: It has none.
    """
    if budget.tolerance is not None and not given and not (isinstance(batch, Mapping) and "labels" in batch):
        raise UserError(
            "a tolerance needs the loss measured, and the training's batches have no 'labels': give loss=, a function "
            "of model and batch, or a budget of a fixed size"
        )


def check_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
    """The optimiser has all that is trained in its groups, where a squeeze can put the new factors.

    Args:
        model: With LoRA.
        optimizer: The trainer's, wrapped or not.

    Raises:
        UserError: It has not.
    """
    check_held(optimizer, lora_parameters(model), "make a new trainer to resume a training")


def step_of(at: float, total: int) -> int:
    """The optimiser step after which a squeeze comes.

    Args:
        at: A share of the steps.
        total: Steps of the training.
    """
    return min(max(1, round(at * total)), total)


def checked_share(at: float) -> float:
    """A share of the training.

    Args:
        at: In (0, 1].

    Raises:
        UserError: It is something else.
    """
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 < at <= 1:
        raise UserError(f"at: must be a number above 0 and up to 1, the share of the training's steps, got {at!r}")
    return at
