"""Whether what training computes is finite, seen without waiting for the device at every step.

    watch = Watch("search", "lower search.weights.learning_rate")
    for step in range(total):
        watch.add({**stage.advance(step), **stage.watched()})    # scalars that stay on the device
        ...
    watch.look()                                                  # one transfer; raises at the first that is not finite

Every step's scalars are kept until they are looked at, so that the step that is named is the first one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor

from autolora.errors import RunError

MOST = 50  # steps between two looks: a run that has diverged goes on no longer than that


class Watch:
    """The scalars of the steps since the last look.

    Args:
        what: Which training it is, in front of the message: the stage.
        advice: What to try, a phrase; may be empty.
    """

    def __init__(self, what: str = "training", advice: str = "") -> None:
        self.what, self.advice = what, advice
        self.step = 0
        self.last: tuple[int, float] | None = None  # the last step with a finite loss, and the loss
        self._names: list[tuple[str, ...]] = []  # of each step
        self._seen: list[Tensor] = []

    def begin(self, step: int, last: tuple[int, float] | None = None) -> None:
        """Go on from a step.

        Args:
            step: Steps done.
            last: The last of them with a finite loss, and the loss.
        """
        self.step, self.last = step, last

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Take in one step.

        Args:
            values: Scalars on the device, by what they are called; the first is the loss. Not every step has them all.

        Raises:
            RunError: As `look`, once there are `MOST` steps to look at.
        """
        self._names.append(tuple(values))
        self._seen.append(torch.stack([value.detach().float() for value in values.values()]))
        if len(self._seen) >= MOST:
            self.look()

    def look(self) -> None:
        """See whether all was finite; the one transfer from the device.

        Raises:
            RunError: Something was not, and at which step first.
        """
        if not self._seen:
            return
        seen, steps = iter(torch.cat(self._seen).tolist()), self._names
        self._names, self._seen = [], []
        for names in steps:
            self.step += 1
            values = list(islice(seen, len(names)))
            wrong = [(name, value) for name, value in zip(names, values, strict=True) if not math.isfinite(value)]
            if math.isfinite(values[0]):
                self.last = self.step, values[0]
            if wrong:
                raise self.error(f"the {wrong[0][0].replace('_', ' ')} is {wrong[0][1]}")

    def check(self, tensors: Mapping[str, Tensor]) -> None:
        """Look at a state as a whole, at the last step.

        Args:
            tensors: By name, on any device.

        Raises:
            RunError: One of them holds a value that is not finite.
        """
        if (name := not_finite(tensors)) is not None:
            raise self.error(f"{name} holds values that are not finite")

    def error(self, found: str) -> RunError:
        """The error that says at which step what was found, and what to try.

        Args:
            found: A sentence without its full stop.
        """
        last = "no loss was finite before" if self.last is None else f"the last finite loss was {_of(self.last)}"
        advice = f"; {self.advice}" if self.advice else ""
        return RunError(f"{self.what}, step {self.step}: {found} ({last}): the training has diverged{advice}")


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """The 2-norm over all tensors together, a scalar on the device; not finite where one of their values is not.

    Args:
        tensors: At least one, of any shapes, on one device.
    """
    length: Tensor = torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(list(tensors)))))
    return length


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with a value that is not finite; None where there is none.

    Args:
        tensors: By name, on any device.
    """
    return next((name for name, each in tensors.items() if not bool(each.isfinite().all())), None)


def _of(last: tuple[int, float]) -> str:
    step, loss = last
    return f"{loss:.4g}, at step {step}"
