"""Which tokens of a conversation are learned: its spans, and the labels of a batch that they make.

An example has "input_ids", "learned" (beginning and end of each span, one after the other) and "prompt", the beginning
of the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from autolora.training.batches import IGNORED

if TYPE_CHECKING:
    from autolora.training.batches import Example, TensorBatch


def spanned(ids: list[int], spans: list[int]) -> dict[str, Any]:
    """An example to learn from.

    Args:
        ids: Its tokens.
        spans: Beginning and end of each span that is learned, one after the other.
    """
    return {"input_ids": ids, "learned": spans, "prompt": spans[0]}


def learned(example: Example) -> int:
    """How many of its tokens are learned.

    Args:
        example: See `spanned`.
    """
    spans = example["learned"]
    return int(sum(spans[1::2]) - sum(spans[::2]))


def labelled(batch: TensorBatch, examples: Sequence[Example], places: Sequence[tuple[int, int]]) -> TensorBatch:
    """The batch with its "labels", (rows, positions from the first label on).

    Args:
        batch: With "input_ids", (rows, positions).
        examples: See `spanned`.
        places: Of each example, its row and its beginning there.
    """
    ids = batch["input_ids"]
    labels = ids.new_full(ids.shape, IGNORED)
    first = ids.shape[1]
    for example, (row, place) in zip(examples, places, strict=True):
        spans = example["learned"]
        for begin, end in zip(spans[::2], spans[1::2], strict=True):
            labels[row, place + begin : place + end] = ids[row, place + begin : place + end]
        first = min(first, place + spans[0])
    return {**batch, "labels": labels[:, first:]}
