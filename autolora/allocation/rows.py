"""Which example the rows of a layer's input belong to.

A batch of b examples reaches a layer as (b, positions, features), as (b, features), or, as in OPT's feed-forward part,
flattened to (b positions, features). A packed row holds several examples one after the other. What fits none of these
(the experts of a mixture see tokens of all examples) is refused unless the batch has one example only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autolora.errors import UserError


@dataclass(frozen=True)
class Rows:
    """The examples of one batch.

    Args:
        count: Number of examples.
        size: Length of the batch's tensors in their first dimension.
        lengths: Their possible numbers of positions, for inputs that are flattened.
        packed: The example of every position, (size, positions), where rows hold several; None: one a row.
    """

    count: int
    size: int
    lengths: frozenset[int] = frozenset()
    packed: Tensor | None = None

    def spread(self, gate: Tensor, shape: Sequence[int], layer: str) -> Tensor:
        """The gates of every row of a layer's input.

        Args:
            gate: (count, q).
            shape: Of the input, without its features.
            layer: Its name, for the message.

        Returns:
            Broadcastable to (*shape, q).

        Raises:
            UserError: The input's rows cannot be told apart by example.
        """
        if self.packed is not None:
            if tuple(shape) in (tuple(self.packed.shape), (self.packed.numel(),)):
                return gate[self.packed.to(gate.device).reshape(tuple(shape))]
        elif self.count == 1:
            return gate.reshape(*[1] * len(shape), -1)
        elif len(shape) >= 1 and shape[0] == self.size:
            return gate.reshape(self.size, *[1] * (len(shape) - 1), -1)
        elif len(shape) == 1 and shape[0] in {self.size * length for length in self.lengths}:
            return gate.repeat_interleave(shape[0] // self.size, dim=0)
        raise UserError(
            f"{layer} sees an input of shape {tuple(shape)} for {self.count} examples, and which row belongs to which "
            "cannot be told; give batches of one example each"
        )


def rows_of(batch: Any) -> Rows:
    """The rows of a batch: those of its first tensor, or of a packed row's examples, told by their ``position_ids``.

    Args:
        batch: A tensor, or tensors in a mapping or a sequence; the first dimension is the examples'.

    Raises:
        UserError: There is no tensor in it.
    """
    tensors = _tensors(batch)
    if not tensors:
        raise UserError(f"a batch is a tensor, or tensors in a mapping or a sequence, got {type(batch).__name__}")
    size = tensors[0].shape[0]
    packed = packed_examples(batch) if isinstance(batch, Mapping) else None
    if packed is not None:
        return Rows(int(packed.max()) + 1, size, packed=packed)
    lengths = frozenset(tensor.shape[1] for tensor in tensors if tensor.ndim > 1 and tensor.shape[0] == size)
    return Rows(size, size, lengths)


def packed_examples(batch: Mapping[str, Any]) -> Tensor | None:
    """The example of every position, (rows, positions), where positions begin anew within a row; else None.

    Args:
        batch: With ``position_ids`` of shape (rows, positions), and an ``attention_mask`` where there is padding.
    """
    positions = batch.get("position_ids")
    if not isinstance(positions, Tensor) or positions.ndim != 2:
        return None
    begins = positions == 0
    mask = batch.get("attention_mask")
    if isinstance(mask, Tensor) and mask.shape == positions.shape:
        begins = begins & mask.bool()
    if int(begins.sum(1).max()) < 2:
        return None
    begins = begins.clone()
    begins[:, 0] = True  # padding on the left becomes an example without units, which adds nothing to any sum
    return torch.cumsum(begins.reshape(-1).long(), 0).reshape(positions.shape) - 1


def _tensors(batch: Any) -> list[Tensor]:
    values = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, list | tuple) else [batch]
    return [value for value in values if isinstance(value, Tensor) and value.ndim > 0]
