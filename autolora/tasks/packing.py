"""Several examples in one row, none of which sees another: ``packed_batch(examples, longest, pad)``.

| tensor | meaning | shape |
|---|---|---|
| input_ids | the examples of a row, one after the other | (rows, positions) |
| position_ids | counted anew from 0 at the beginning of each example; padding counts on | (rows, positions) |

The model is called with them as `autolora.model.packed` says. Examples keep their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autolora.training.batches import Example

if TYPE_CHECKING:
    from autolora.training.batches import TensorBatch


def in_rows(lengths: Sequence[int], longest: int) -> list[list[int]]:
    """Which examples stand in each row: each goes into the last row, if there is still room, else into a new one.

    Args:
        lengths: Tokens of each example.
        longest: Tokens of a row, at most; a longer example has a row of its own.
    """
    rows: list[list[int]] = []
    left = 0
    for i, length in enumerate(lengths):
        if not rows or length > left:
            rows.append([])
            left = longest
        rows[-1].append(i)
        left -= length
    return rows


def packed_batch(examples: Sequence[Example], longest: int, pad: int) -> TensorBatch:
    """The tokens and positions of the examples, a few in a row.

    Args:
        examples: With "input_ids".
        longest: Tokens of a row, at most.
        pad: The padding token's id.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    rows = in_rows([len(example["input_ids"]) for example in examples], longest)
    ids = [torch.tensor([id for i in row for id in examples[i]["input_ids"]]) for row in rows]
    places = [torch.cat([torch.arange(len(examples[i]["input_ids"])) for i in row]) for row in rows]
    batch = {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad),
        "position_ids": pad_sequence(places, batch_first=True),
    }
    for row, positions in zip(batch["position_ids"], places, strict=True):
        padding = len(row) - len(positions)  # belongs to the last example, which does not see what follows it
        row[len(positions) :] = positions[-1] + 1 + torch.arange(padding)
    return batch


def begins(examples: Sequence[Example], longest: int) -> list[tuple[int, int]]:
    """The row, and the place in it, where each example begins in `packed_batch`.

    Args:
        examples: With "input_ids".
        longest: As there.
    """
    lengths = [len(example["input_ids"]) for example in examples]
    found = []
    for row, members in enumerate(in_rows(lengths, longest)):
        place = 0
        for i in members:
            found.append((row, place))
            place += lengths[i]
    return found
