"""The gradient of a batch's mean loss with respect to chosen tensors, over micro-batches and processes.

Gradients are returned, not left in ``.grad``: the search needs them with respect to different sets of tensors, at
different points, several times a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from autolora.causes import loaded
from autolora.training.batches import Batch, TensorBatch, load_of_batch
from autolora.training.compute import Compute
from autolora.training.seeds import derive, seed_torch

_PASSES = "#passes"
LossFunction = Callable[[TensorBatch], Tensor]
"""Sum of the losses of a micro-batch's units, a scalar."""


class Gradients:
    """Computes mean losses and their gradients.

    Forward and backward passes over a batch are counted, however many micro-batches it has.

    Args:
        loss: The summed loss of a micro-batch.
        compute: Gives the precision and adds up over processes; None: float32, one process.
        double_backward: Attention kernels that can be differentiated twice (for the exact estimator).
        penalty: What is added to the mean loss of a batch whatever its examples, a scalar.
        around: A context for the passes that are not in full precision, such as `CompiledPasses`.
    """

    def __init__(
        self,
        loss: LossFunction,
        compute: Compute | None = None,
        *,
        double_backward: bool = False,
        penalty: Callable[[], Tensor] | None = None,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.loss, self.compute, self.double_backward = loss, compute, double_backward
        self.penalty, self.around = penalty, around
        self.passes = [0, 0]  # forward, backward
        self.load_now: dict[str, object] = {}  # of the pass that is being made

    def counted(self) -> dict[str, int]:
        """The passes so far, as manifest entries."""
        return {"forward_passes": self.passes[0], "backward_passes": self.passes[1]}

    def state(self) -> dict[str, Tensor]:
        """The passes, so that a resumed stage counts on."""
        return {_PASSES: torch.tensor(self.passes)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `state`.

        Args:
            tensors: A checkpoint's.
        """
        self.passes = [int(count) for count in tensors[_PASSES].tolist()]

    def of(
        self, batch: Batch, wrt: Sequence[Tensor], seed: int, *, full_precision: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """The mean loss of a batch, and its gradients.

        Args:
            batch: This process's share; the result is that of all processes.
            wrt: What to differentiate with respect to.
            seed: Of the dropout masks, which are the same for the same seed, whatever the tensors' values.
            full_precision: No autocast, for passes whose difference is taken.

        Returns:
            A detached scalar on the device, and gradients shaped like `wrt`.
        """
        with loaded(self.load_now):
            return self._of(batch, wrt, seed, full_precision)

    def _of(self, batch: Batch, wrt: Sequence[Tensor], seed: int, full_precision: bool) -> tuple[Tensor, list[Tensor]]:
        self._count(1, 1)
        total = torch.zeros((), device=wrt[0].device)
        sums: list[Tensor] = []
        for loss in self._losses(batch, seed, full_precision):
            grads = torch.autograd.grad(loss, wrt, materialize_grads=True)
            sums = _added(sums, grads, wrt)
            total += loss.detach()
        loss, gradients = self._over_processes(total, sums or [torch.zeros_like(tensor) for tensor in wrt])
        if self.penalty is not None:
            gradients = _added(gradients, torch.autograd.grad(self.penalty(), wrt, materialize_grads=True), wrt)
        return loss, gradients

    def _count(self, forward: int, backward: int) -> None:
        self.passes = [self.passes[0] + forward, self.passes[1] + backward]

    def mixed_product(
        self, batch: Batch, weights: Sequence[Tensor], vector: Sequence[Tensor], wrt: Sequence[Tensor], seed: int
    ) -> list[Tensor]:
        """The product ``∇_wrt (∇_weights L · vector)`` by double backward.

        Args:
            batch: This process's share; the result is that of all processes.
            weights: What to differentiate with respect to first.
            vector: Shaped like `weights`.
            wrt: What to differentiate with respect to then.
            seed: Of the dropout masks.

        Returns:
            Shaped like `wrt`.
        """
        with loaded(self.load_now):
            return self._mixed_product(batch, weights, vector, wrt, seed)

    def _mixed_product(
        self, batch: Batch, weights: Sequence[Tensor], vector: Sequence[Tensor], wrt: Sequence[Tensor], seed: int
    ) -> list[Tensor]:
        self._count(1, 2)
        sums: list[Tensor] = []
        for loss in self._losses(batch, seed, False):
            with twice_differentiable_attention():  # layers that are recomputed choose their kernels again
                grads = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
                dot = torch.stack([(g * v).sum() for g, v in zip(grads, vector, strict=True)]).sum()
                sums = _added(sums, torch.autograd.grad(dot, wrt, materialize_grads=True), wrt)
        zero = torch.zeros((), device=wrt[0].device)
        return self._over_processes(zero, sums or [torch.zeros_like(tensor) for tensor in wrt])[1]

    def _losses(self, batch: Batch, seed: int, full_precision: bool) -> Iterator[Tensor]:
        process = self.compute.process if self.compute else 0
        for i, micro in enumerate(batch.micro):
            self.load_now.clear()
            self.load_now.update(load_of_batch(micro))
            seed_torch(derive(seed, process, i))
            with self._context(full_precision):
                loss = self.loss(micro) / batch.units
            yield loss
        for micro in batch.idle:  # a pass that takes all processes, of one that has nothing left
            with self._context(full_precision):
                loss = self.loss(micro) * 0.0
            yield loss

    @contextmanager
    def _context(self, full_precision: bool) -> Iterator[None]:
        autocast: AbstractContextManager[object] = nullcontext()
        if self.compute is not None and not full_precision:
            autocast = self.compute.autocast()
        around = nullcontext() if full_precision else self.around()
        with autocast, around, twice_differentiable_attention() if self.double_backward else nullcontext():
            yield

    def _over_processes(self, total: Tensor, sums: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        if self.compute is None or self.compute.processes == 1:
            return total, sums
        flat = torch.cat([total.reshape(1), *(tensor.reshape(-1) for tensor in sums)])
        flat = self.compute.sum(flat)
        pieces = torch.split(flat[1:], [tensor.numel() for tensor in sums])
        return flat[0], [piece.view_as(tensor) for piece, tensor in zip(pieces, sums, strict=True)]


def _added(sums: list[Tensor], grads: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    """The sums with gradients added; without sums, the gradients themselves, laid out in memory as their tensors are.

    Autograd may give a transposed or an expanded gradient, which the fused optimisers would read in the wrong order.
    """
    if sums:
        return list(torch._foreach_add(sums, list(grads)))
    return [g if g.stride() == t.stride() else torch.empty_like(t).copy_(g) for g, t in zip(grads, like, strict=True)]


@contextmanager
def twice_differentiable_attention() -> Iterator[None]:
    """The fused attention kernels have no second derivative; PyTorch's plain one has."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        yield
