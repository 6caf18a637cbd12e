"""How much the loss rises when components are dropped, measured: ``Rises(layers, components, mean_loss)``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from torch import nn

from autolora.allocation.components import Components
from autolora.allocation.gates import closed
from autolora.errors import RunError, UserError


class LossRises(Protocol):
    """The rise of the mean loss by what is kept, measured or remembered."""

    def __call__(self, kept: Mapping[str, Sequence[int]]) -> float:
        """The rise, in the loss's own units.

        Args:
            kept: Indices of the components that stay, by layer.
        """

    def gain(self) -> float:
        """What the LoRA is worth: the rise without any of it.

        Raises:
            UserError: The loss is no higher then.
        """


class Rises:
    """The measured rise of the mean loss by what is kept; nothing of the model changes.

    Args:
        layers: The LoRA layers by full module name.
        components: Of these layers as they are now, by the same names.
        mean_loss: The loss of the model as it is when it is called, on the same rows every time, without dropout.
    """

    def __init__(
        self, layers: Mapping[str, nn.Module], components: Mapping[str, Components], mean_loss: Callable[[], float]
    ) -> None:
        self.layers, self.components, self.mean_loss = layers, components, mean_loss
        self.now = self._loss()

    def __call__(self, kept: Mapping[str, Sequence[int]]) -> float:
        """The rise, in the loss's own units.

        Args:
            kept: Indices of the components that stay, by layer.

        Raises:
            RunError: The loss is not finite.
        """
        with closed(self.layers, self.components, kept):
            return self._loss() - self.now

    def gain(self) -> float:
        """What the LoRA is worth: the rise without any of it.

        Raises:
            UserError: The loss is no higher then.
        """
        return checked_gain(self(dict.fromkeys(self.components, ())), self.now)

    def _loss(self) -> float:
        loss = self.mean_loss()
        if not math.isfinite(loss):
            raise RunError(f"the measured loss is {loss}: the training has diverged")
        return loss


def checked_gain(rise: float, now: float) -> float:
    """The rise without any LoRA, where that is a gain.

    Args:
        rise: Measured.
        now: The loss with all of the LoRA.

    Raises:
        UserError: The loss is no higher without.
    """
    if not rise > 0:
        raise UserError(
            f"without its LoRA the model's loss is no higher ({now + rise:.4g}, with it {now:.4g}), so "
            "a share of the gain says nothing; give a fixed budget, or train on"
        )
    return rise
