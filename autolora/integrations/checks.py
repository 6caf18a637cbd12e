"""What a squeeze in the middle of a training would fail at, found before its first step: ``check(model, …)``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from logging import Logger
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from autolora.allocation.budget import Budget
from autolora.allocation.components import adapter_of
from autolora.allocation.compress import check_config
from autolora.allocation.likelihood import Likelihood, Predictive
from autolora.allocation.passes import evaluating, runs_exactly
from autolora.allocation.squeeze import Loss, own_loss, tried
from autolora.causes import is_memory
from autolora.errors import UserError
from autolora.integrations.batches import undisturbed
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


def _check_labels(budget: Budget, batch: Any, loss: Loss | None) -> None:
    """A tolerance is measured by a loss, which the batches must have labels for."""
    if budget.tolerance is not None and loss is None and not (isinstance(batch, Mapping) and "labels" in batch):
        raise UserError(
            "a tolerance needs the loss measured, and the training's batches have no 'labels': give loss=, a function "
            "of model and batch, or a budget of a fixed size"
        )


def check_passes(
    model: PeftModel, budget: Budget, batch: Any, likelihood: Likelihood | None, loss: Loss | None
) -> None:
    """The passes of a squeeze work on a batch, now and not only in the middle of the training.

    They are in evaluation mode and without gradients, and leave the generators as they are.

    Args:
        model: With LoRA, trained or not, on the batch's device.
        budget: Any.
        batch: The first one, as the model takes it.
        likelihood: Of its predictions, or None.
        loss: The user's own, or None.

    Raises:
        UserError: They don't; the message says which error came of what batch. Or a tolerance has no loss.
    """
    _check_labels(budget, batch, loss)
    predictive = Predictive(model, model.get_base_model(), likelihood)
    measured = None if budget.tolerance is None else loss or own_loss
    once = partial(tried, model, predictive, batch, measured)
    try:
        with undisturbed(0):
            exact = runs_exactly(model, once)
            with evaluating(model, exact=exact), torch.no_grad():
                once()
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as error:
        if is_memory(error):
            raise
        given = f"with {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else f"a {type(batch).__name__}"
        said = (str(error).splitlines() or [""])[0][:200]
        raise UserError(
            f"the squeeze could not pass the training's first batch ({given}) through the model: "
            f"{type(error).__name__}: {said}; give SqueezeCallback batches=, a list of batches as the model takes "
            "them, or correct likelihood= or loss=, whichever raised it"
        ) from error


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


def checked_batches(batches: Iterable[Any] | None) -> Iterable[Any] | None:
    """Batches that can be read before the training and in it.

    Args:
        batches: As the user gives them; None: there are none.

    Raises:
        UserError: They are one batch, or come only once.
    """
    if isinstance(batches, Tensor | Mapping):
        raise UserError(f"batches: must be a list of batches, or a DataLoader, got one {type(batches).__name__}")
    if batches is not None and iter(batches) is batches:
        raise UserError(
            f"batches: a {type(batches).__name__} can be read only once, and is read before the first step and at the "
            "squeeze; give a list of batches, or a DataLoader"
        )
    return batches


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


def say_end(log: Logger, failed: str, now: int, due: int) -> None:
    """Say so when a training ended without its squeeze.

    Args:
        log: Of the callback.
        failed: Why there was none; "" where it did not fail.
        now: The optimiser steps that were made.
        due: After which of them it was due; 0 where it is not.
    """
    if failed:
        log.error("the training ended, and its LoRA has its full size: %s", failed)
    if due > 0:
        log.warning(
            "the training ended after step %d, before the squeeze, which was due after step %d: "
            "the adapter has its full size; autolora.squeeze(model, batches) squeezes it now",
            now,
            due,
        )
