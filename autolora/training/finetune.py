"""Plain training: one gradient and one AdamW step at a time; and what a method hands over to be trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from autolora.recipe.schema import Weights
from autolora.training.batches import Batches
from autolora.training.gradients import Gradients
from autolora.training.optimizers import ScheduledOptimizer, norms_of
from autolora.training.seeds import derive


class Callback(Protocol):
    """What is done after every optimiser step, with a state of its own."""

    def after_step(self, done: int) -> None:
        """Called while the parameters still have their gradients.

        Args:
            done: Optimiser steps taken, from 1.
        """

    def state(self) -> Mapping[str, Tensor]:
        """Everything that changes, by name."""

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `state`.

        Args:
            tensors: A checkpoint's, on any device; those of others are among them.
        """


@dataclass(frozen=True)
class Training:
    """What is to be trained.

    Args:
        model: Whatever requires a gradient in it is trained.
        callback: Called after every optimiser step.
        penalty: A scalar that is added to the mean training loss, whatever the examples.
        initial_passes: Forward passes over batches that it took to make it.
        begin: The first step, where the model has been trained so far already.
        prepare: Called with the optimiser before that step, to go on with what there is of its state.
        factors: What the learning rate of a parameter is multiplied by, by its name in the model; 1 of all others.
        whole_from: The first number of steps done after which the weights are such as may be kept.
    """

    model: nn.Module
    callback: Callback | None = None
    penalty: Callable[[], Tensor] | None = None
    initial_passes: int = 0
    begin: int = 0
    prepare: Callable[[ScheduledOptimizer], None] | None = None
    factors: Mapping[str, float] = field(default_factory=dict)
    whole_from: int = 0


class Finetuning:
    """Trains whatever of `model` requires a gradient; a `autolora.training.loop.Trainable`.

    Args:
        model: In training mode.
        gradients: What computes losses and gradients of the model.
        train: Batches.
        settings: Of the optimiser and its schedule.
        total: Number of steps.
        seed: The recipe's.
        identity: See `Trainable`.
        callback: Called after every optimiser step.
        factors: See `Training`.
    """

    def __init__(
        self,
        model: nn.Module,
        gradients: Gradients,
        train: Batches,
        settings: Weights,
        *,
        total: int,
        seed: int,
        identity: str = "",
        callback: Callback | None = None,
        factors: Mapping[str, float] | None = None,
    ) -> None:
        self.gradients, self.train, self.seed, self.identity = gradients, train, derive(seed, "retrain"), identity
        self.callback = callback
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.weights = ScheduledOptimizer(trainable, settings, total, factors=factors)

    def advance(self, step: int) -> dict[str, Tensor]:
        """One gradient and one optimiser step.

        Args:
            step: From 0.

        Returns:
            "train_loss", a scalar on the device.
        """
        parameters = list(self.weights.named.values())
        loss, gradients = self.gradients.of(self.train.at(step), parameters, derive(self.seed, step))
        self.weights.apply(gradients, step, lambda: self.callback.after_step(step + 1) if self.callback else None)
        return {"train_loss": loss}

    def watched(self) -> Mapping[str, Tensor]:
        """Norms of the last step's gradient, and of the weights after it."""
        return norms_of(self.weights, "gradient", "weights")

    def record(self, step: int) -> Mapping[str, object]:
        """The learning rate of the last step, as the log has it.

        Args:
            step: Steps done, from 1.
        """
        return {"weights_learning_rate": self.weights.learning_rate(step - 1)}

    def state(self) -> dict[str, Tensor]:
        """Weights, moments, the callback's state and the passes so far, by name."""
        followed = self.callback.state() if self.callback else {}
        return {**self.weights.state(), **followed, **self.gradients.state()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `state`.

        Args:
            tensors: A checkpoint's, on any device.
        """
        self.weights.load(tensors)
        self.gradients.load(tensors)
        if self.callback:
            self.callback.load(tensors)
