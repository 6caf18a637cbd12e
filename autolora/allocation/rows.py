"""Which example the rows of a layer's input belong to.

A batch of b examples reaches a layer as (b, positions, features), as (b, features), or flattened: to (b positions,
features) in OPT's feed-forward part, to (b choices, positions, features) in multiple choice. A packed row holds several
examples one after the other. What fits none of these (the experts of a mixture see tokens of all examples, DeBERTa's
projections its table of relative positions too) can only be told in batches of one example, `apart`; whether it fits is
seen by `autolora.allocation.told`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from autolora.errors import UserError


class UntoldError(UserError):
    """The rows of a layer's input cannot be told apart by example.

    Args:
        layer: Its name.
        shape: Of its input, without the features.
        count: Examples of the batch.
        which: What about that input, should its shape not say it.
    """

    def __init__(self, layer: str, shape: Sequence[int], count: int, which: str = "") -> None:
        super().__init__(
            f"{layer} sees an input of shape {tuple(shape)} for {count} examples{which}, and which row belongs to "
            "which cannot be told; give batches of one example each"
        )


@dataclass(frozen=True)
class Rows:
    """The examples of one batch.

    Args:
        count: Number of examples.
        size: Length of the batch's tensors in their first dimension.
        lengths: Their possible numbers of positions, or choices, for inputs that are flattened.
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
            UntoldError: The input's rows cannot be told apart by example.
        """
        if self.packed is not None:
            if tuple(shape) in (tuple(self.packed.shape), (self.packed.numel(),)):
                return gate[self.packed.to(gate.device).reshape(tuple(shape))]
        elif self.count == 1:
            return gate.reshape(*[1] * len(shape), -1)
        elif len(shape) >= 1 and shape[0] == self.size:
            return gate.reshape(self.size, *[1] * (len(shape) - 1), -1)
        elif len(shape) >= 1 and shape[0] in {self.size * length for length in self.lengths}:
            by_row = gate.repeat_interleave(shape[0] // self.size, dim=0)
            return by_row.reshape(shape[0], *[1] * (len(shape) - 1), -1)
        raise UntoldError(layer, shape, self.count)

    def rolled(self, x: Tensor) -> Tensor:
        """A layer's input as it should be when the batch's rows are those of `rolled`.

        Args:
            x: (*shape, q), of a shape that `spread` takes.
        """
        if x.shape[0] == self.size:
            return x.roll(1, 0)
        return x.view(self.size, -1, *x.shape[1:]).roll(1, 0).flatten(0, 1)


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


def rolled(batch: Any, rows: Rows) -> Iterator[Any]:
    """The batch with its last row first; and so again without what may be no rows of examples (a mask of positions).

    Args:
        batch: As `rows_of` takes it.
        rows: Its own.
    """

    def roll(tensor: Tensor) -> Tensor:
        return tensor.roll(1, 0) if tensor.shape[0] == rows.size else tensor

    yield _mapped(batch, roll)
    if doubtful := _doubtful(batch, rows):
        yield _mapped(batch, lambda tensor: tensor if any(tensor is each for each in doubtful) else roll(tensor))


def apart(batch: Any, rows: Rows) -> list[Any] | None:
    """Batches of one example each; None where it cannot be told what of the batch belongs to one.

    Args:
        batch: As `rows_of` takes it.
        rows: Its own.
    """
    tensors, lists = _tensors(batch), any(isinstance(value, list | tuple | Mapping) for value in _values(batch))
    others = any(tensor.shape[0] != rows.size for tensor in tensors)
    if rows.packed is not None or lists or others or _doubtful(batch, rows):
        return None
    return [_mapped(batch, itemgetter(slice(i, i + 1))) for i in range(rows.size)]


def _doubtful(batch: Any, rows: Rows) -> list[Tensor]:
    """What may have positions in its first dimension, of which there are as many as examples."""
    return [tensor for tensor in _tensors(batch)[1:] if tensor.shape[:2] == (rows.size, rows.size)]


def _mapped(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The batch with its tensors changed, all but those of a single number."""

    def changed(value: Any) -> Any:
        return change(value) if isinstance(value, Tensor) and value.ndim > 0 else value

    if isinstance(batch, Mapping):
        return {name: changed(value) for name, value in batch.items()}
    return [changed(value) for value in batch] if isinstance(batch, list | tuple) else changed(batch)


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


def _values(batch: Any) -> Iterable[Any]:
    return batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, list | tuple) else [batch]


def _tensors(batch: Any) -> list[Tensor]:
    return [value for value in _values(batch) if isinstance(value, Tensor) and value.ndim > 0]
