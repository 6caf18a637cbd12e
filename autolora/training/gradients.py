"""The gradient of a batch's mean loss with respect to chosen tensors, over micro-batches and processes.

Gradients are returned, not left in ``.grad``: the search needs them with respect to different sets of tensors, at
different points, several times a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor

from autolora.training.batches import Batch, TensorBatch
from autolora.training.seeds import derive, seed_torch

Loss = Callable[[TensorBatch], Tensor]
"""Sum of the losses of a micro-batch's units, a scalar."""


class Gradients:
    """Computes mean losses and their gradients.

    loss: the summed loss of a micro-batch.
    accelerator: gives the precision and adds up over processes; None: float32, one process.
    double_backward: attention kernels that can be differentiated twice (for the exact estimator).
    """

    def __init__(self, loss: Loss, accelerator: Accelerator | None = None, *, double_backward: bool = False) -> None:
        self.loss, self.accelerator, self.double_backward = loss, accelerator, double_backward

    def of(
        self, batch: Batch, wrt: Sequence[Tensor], seed: int, *, full_precision: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """Mean loss (detached scalar) and its gradients, shaped like `wrt`.

        The same `seed` gives the same dropout masks, whatever the tensors' values.
        full_precision: no autocast, for passes whose difference is taken.
        """
        total = torch.zeros((), device=wrt[0].device)
        sums = [torch.zeros_like(tensor) for tensor in wrt]
        for loss in self._losses(batch, seed, full_precision):
            grads = torch.autograd.grad(loss, wrt, materialize_grads=True)
            torch._foreach_add_(sums, list(grads))
            total += loss.detach()
        return self._over_processes(total, sums)

    def mixed_product(
        self, batch: Batch, weights: Sequence[Tensor], vector: Sequence[Tensor], wrt: Sequence[Tensor], seed: int
    ) -> list[Tensor]:
        """``∇_wrt (∇_weights L · vector)`` by double backward, shaped like `wrt`."""
        sums = [torch.zeros_like(tensor) for tensor in wrt]
        for loss in self._losses(batch, seed, False):
            grads = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
            dot = torch.stack([(g * v).sum() for g, v in zip(grads, vector, strict=True)]).sum()
            torch._foreach_add_(sums, list(torch.autograd.grad(dot, wrt, materialize_grads=True)))
        return self._over_processes(torch.zeros((), device=wrt[0].device), sums)[1]

    def _losses(self, batch: Batch, seed: int, full_precision: bool) -> Iterator[Tensor]:
        process = self.accelerator.process_index if self.accelerator else 0
        for i, micro in enumerate(batch.micro):
            seed_torch(derive(seed, process, i))
            with self._context(full_precision):
                loss = self.loss(micro) / batch.units
            yield loss

    @contextmanager
    def _context(self, full_precision: bool) -> Iterator[None]:
        autocast: AbstractContextManager[None] = nullcontext()
        if self.accelerator is not None and not full_precision:
            autocast = self.accelerator.autocast()
        with autocast, twice_differentiable_attention() if self.double_backward else nullcontext():
            yield

    def _over_processes(self, total: Tensor, sums: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        if self.accelerator is None or self.accelerator.num_processes == 1:
            return total, sums
        flat = torch.cat([total.reshape(1), *(tensor.reshape(-1) for tensor in sums)])
        flat = self.accelerator.reduce(flat, reduction="sum")
        pieces = flat[1:].split([tensor.numel() for tensor in sums])
        return flat[0], [piece.view_as(tensor) for piece, tensor in zip(pieces, sums, strict=True)]


@contextmanager
def twice_differentiable_attention() -> Iterator[None]:
    """The fused attention kernels have no second derivative; PyTorch's plain one has."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        yield
