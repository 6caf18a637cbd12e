"""Plain training as a stage: one gradient and one AdamW step at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from autolora.recipe.schema import Weights
from autolora.training.batches import BatchStream
from autolora.training.gradients import Gradients
from autolora.training.optimizers import ScheduledOptimizer
from autolora.training.seeds import derive


class Follower(Protocol):
    """What some methods do after every optimiser step, with a state of its own."""

    def after_step(self, done: int) -> None:
        """done: optimiser steps taken. The parameters still have their gradients."""

    def state(self) -> Mapping[str, Tensor]: ...

    def load(self, tensors: Mapping[str, Tensor]) -> None: ...


class RetrainStage:
    """Trains whatever of `model` requires a gradient; a `autolora.training.loop.Stage`."""

    def __init__(
        self,
        model: nn.Module,
        gradients: Gradients,
        train: BatchStream,
        settings: Weights,
        *,
        total: int,
        seed: int,
        identity: str = "",
        follower: Follower | None = None,
    ) -> None:
        self.gradients, self.train, self.seed, self.identity = gradients, train, derive(seed, "retrain"), identity
        self.follower = follower
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.weights = ScheduledOptimizer(trainable, settings, total)

    def advance(self, step: int) -> dict[str, Tensor]:
        parameters = list(self.weights.named.values())
        loss, gradients = self.gradients.of(self.train.at(step), parameters, derive(self.seed, step))
        self.weights.apply(gradients, step, lambda: self.follower.after_step(step + 1) if self.follower else None)
        return {"train_loss": loss}

    def record(self, step: int) -> Mapping[str, Any]:
        return {"weights_learning_rate": self.weights.learning_rate(step - 1)}

    def state(self) -> dict[str, Tensor]:
        followed = self.follower.state() if self.follower else {}
        return {**self.weights.state(), **followed, **self.gradients.state()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        self.weights.load(tensors)
        self.gradients.load(tensors)
        if self.follower:
            self.follower.load(tensors)
