"""Which step's weights are kept, and when a training has gone on long enough: by what rows say that it does not see.

    keeping = Keeping(named, measure, "loss", every=50, best=True, patience=3)
    run_steps(stage, ..., keeping=keeping)
    keeping.restore()                        # the best weights are in the model again

What is kept so far is a part of the checkpoint, so that a training that is gone on with ends as one that was never
stopped. Of equal values the first counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

BEST = "#best:"  # in front of a parameter's name in a checkpoint


class Keeping:
    """Looks at the weights every few steps.

    Args:
        named: The trained parameters, by name.
        measure: The value of the weights as they are; None where it is undefined, which is worse than any number.
        name: What the log calls it: ``held_out_<name>``.
        every: Steps from one evaluation to the next; there is one after the last step, too.
        best: Whether the best weights are kept.
        patience: How many evaluations in a row without a better one end the training; None: none do.
        higher_is_better: Of the value.
        first: Steps that must be done before the first evaluation.
    """

    def __init__(
        self,
        named: Mapping[str, Tensor],
        measure: Callable[[], float | None],
        name: str,
        *,
        every: int,
        best: bool,
        patience: int | None = None,
        higher_is_better: bool = False,
        first: int = 1,
    ) -> None:
        self.named, self.measure, self.name, self.every = named, measure, f"held_out_{name}", every
        self.best, self.patience, self.higher_is_better, self.first = best, patience, higher_is_better, first
        self.step = 0  # of the best evaluation
        self.value: float | None = None
        self.evaluations = self.since = 0  # in all, and since the best one
        self.weights: dict[str, Tensor] = {}  # of the best one, on the CPU

    @property
    def ended(self) -> bool:
        """Whether the training has gone on long enough."""
        return self.patience is not None and self.since >= self.patience

    def due(self, done: int, total: int) -> bool:
        """Whether there is an evaluation after so many steps.

        Args:
            done: Steps done, from 1.
            total: Of the training.
        """
        return done >= self.first and (done % self.every == 0 or done == total)

    def logged(self, done: int) -> int:
        """The last step of an evaluation, of those that are done; 0 where there was none.

        Args:
            done: Steps done.
        """
        last = done // self.every * self.every
        return last if last >= self.first else 0

    def look(self, done: int) -> dict[str, float | None]:
        """Evaluate the weights as they are, and keep them if they are better than all before.

        Args:
            done: Steps done, from 1.

        Returns:
            What the log says of it.
        """
        value = self.measure()
        self.evaluations += 1
        self.since += 1
        if self.step == 0 or self._better(value):
            self.step, self.value, self.since = done, value, 0
            if self.best:
                self.weights = {name: p.detach().to("cpu", copy=True) for name, p in self.named.items()}
        return {self.name: value}

    def _better(self, value: float | None) -> bool:
        if value is None or self.value is None:
            return value is not None
        return value > self.value if self.higher_is_better else value < self.value

    @torch.no_grad()
    def restore(self) -> None:
        """Put the best weights into the model, where they are kept."""
        for name, weight in self.weights.items():
            self.named[name].copy_(weight)

    def state(self) -> dict[str, Tensor]:
        """The best weights, for a checkpoint."""
        return {BEST + name: weight for name, weight in self.weights.items()}

    def record(self) -> dict[str, Any]:
        """The rest of what a checkpoint says, JSON-able."""
        return {"step": self.step, "value": self.value, "since": self.since, "evaluations": self.evaluations}

    def load(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """The inverse of `state` and `record`.

        Args:
            tensors: A checkpoint's, those of others among them.
            record: As `record` gave it.
        """
        self.weights = {name.removeprefix(BEST): each for name, each in tensors.items() if name.startswith(BEST)}
        self.step, self.value = int(record["step"]), record["value"]
        self.since, self.evaluations = int(record["since"]), int(record["evaluations"])
