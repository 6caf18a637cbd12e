"""Batches as a pure function of the step: shuffled, bucketed by length, padded to their longest member.

    stream = BatchStream(examples, collate, batch_size=32, seed=7)
    batch = stream.at(step)          # the same batch for the same step, whatever came before

Examples are dicts with "input_ids"; `collate` turns a list of them into a dict of tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.trainer_pt_utils import get_length_grouped_indices

from autolora.training.seeds import derive, generator

IGNORED = -100  # label of what a loss leaves out, as torch and transformers have it
Example = Mapping[str, Any]
TensorBatch = dict[str, Tensor]
Collate = Callable[[Sequence[Example]], TensorBatch]


@dataclass(frozen=True)
class Batch:
    """One optimiser step's examples on this process.

    Args:
        micro: The micro-batches, on the device; empty where this process's share is.
        units: What the loss is averaged over (examples, or target tokens), over all processes.
        idle: Micro-batches that count for nothing: passes that others make more than this process.
    """

    micro: tuple[TensorBatch, ...]
    units: int
    idle: tuple[TensorBatch, ...] = ()


def load_of_batch(batch: Any) -> dict[str, object]:
    """Its size as `autolora.causes.loaded` has it: "examples", and "tokens" of the longest; nothing of what has none.

    Args:
        batch: What a model takes.
    """
    ids = batch.get("input_ids") if isinstance(batch, Mapping) else None
    if not isinstance(ids, Tensor) or ids.ndim != 2:
        return {}
    return {"examples": ids.shape[0], "tokens": ids.shape[1]}


def counts_nothing(batch: Any) -> Tensor | None:
    """Whether a batch has labels and none of them counts, so that the mean loss is over nothing.

    Args:
        batch: What a model takes.

    Returns:
        A boolean on the batch's device, which nobody has waited for; None where there are no labels.
    """
    labels = batch.get("labels") if isinstance(batch, Mapping) else None
    if not isinstance(labels, Tensor) or labels.is_floating_point() or not labels.numel():
        return None
    return (labels == IGNORED).all()


class Batches(Protocol):
    """What training takes its batches from."""

    def at(self, step: int) -> Batch:
        """The batch of a step on this process.

        Args:
            step: From 0.
        """


class BatchStream:
    """An endless stream of batches over a set of examples.

    Args:
        examples: At least one.
        collate: Turns examples into a dict of tensors on the CPU, padded.
        batch_size: Examples of an optimiser step, over all processes and micro-batches.
        seed: Of the order.
        units: Counts what the loss of examples is averaged over.
        gradient_accumulation: Micro-batches of an optimiser step on each process, at most.
        device: Where the tensors go.
        process: This process's number, from 0.
        processes: How many share the examples of a step.
        in_step: Whether every process makes as many passes, as it must where a pass takes all of them.

    Raises:
        ValueError: There is no example.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        collate: Collate,
        *,
        batch_size: int,
        seed: int,
        units: Callable[[Sequence[Example]], int] = len,
        gradient_accumulation: int = 1,
        device: torch.device | str = "cpu",
        process: int = 0,
        processes: int = 1,
        in_step: bool = False,
    ) -> None:
        if not examples:
            raise ValueError("a stream of batches needs at least one example, got none")
        self.examples, self.collate, self.units = examples, collate, units
        self.batch_size, self.accumulation, self.seed = batch_size, gradient_accumulation, seed
        self.device, self.process, self.processes = torch.device(device), process, processes
        self.in_step = in_step
        self.lengths = [len(example["input_ids"]) for example in examples]
        self._epoch: int | None = None
        self._order: list[list[int]] = []

    @property
    def batches_per_epoch(self) -> int:
        """Steps that it takes to see every example once; the last of them may be smaller."""
        return -(-len(self.examples) // self.batch_size)

    def indices(self, step: int) -> list[int]:
        """Positions of the examples of a step, over all processes.

        Args:
            step: From 0.
        """
        epoch, offset = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            self._order, self._epoch = self._epoch_order(epoch), epoch
        return self._order[offset]

    def at(self, step: int) -> Batch:
        """The batch of a step on this process.

        Args:
            step: From 0.
        """
        chosen = [self.examples[i] for i in self.indices(step)]
        parts = self._parts(chosen, self.process)
        others = range(self.processes) if self.in_step else ()
        lacking = max((len(self._parts(chosen, each)) for each in others), default=0) - len(parts)
        return Batch(
            tuple(self._to_device(self.collate(part)) for part in parts),
            max(1, self.units(chosen)),
            tuple(self._to_device(self.collate(chosen[-1:])) for _ in range(lacking)),
        )

    def _parts(self, chosen: Sequence[Example], process: int) -> list[Sequence[Example]]:
        """The examples of each of a process's micro-batches."""
        mine = chosen[process :: self.processes]
        size = -(-len(mine) // self.accumulation) if mine else 1
        return [mine[i : i + size] for i in range(0, len(mine), size)]

    def _epoch_order(self, epoch: int) -> list[list[int]]:
        # Grouping sorts by length within mega-batches; the order of the batches is then shuffled, as it would
        # otherwise run from long to short again and again.
        rng = generator(derive(self.seed, "epoch", epoch))
        flat = get_length_grouped_indices(self.lengths, self.batch_size, generator=rng)
        batches = [flat[i : i + self.batch_size] for i in range(0, len(flat), self.batch_size)]
        return [batches[i] for i in torch.randperm(len(batches), generator=rng).tolist()]

    def _to_device(self, batch: TensorBatch) -> TensorBatch:
        if self.device.type != "cuda":
            return {name: tensor.to(self.device) for name, tensor in batch.items()}
        return {name: tensor.pin_memory().to(self.device, non_blocking=True) for name, tensor in batch.items()}
