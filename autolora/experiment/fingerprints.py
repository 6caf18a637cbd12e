"""Which rows have the same input: ``prints = fingerprints(rows, ["sentence"], "label")``, eight bytes for each.

The texts themselves are not kept, so that whole splits are compared in little memory. Two different inputs have the
same fingerprint with probability 2⁻⁶⁴.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autolora.tasks.encoding import columns_of

Numbers = NDArray[np.uint64]
Pair = tuple[int, int]  # two rows, from 0


@dataclass(frozen=True)
class Fingerprints:
    """Of the rows of a split, in order.

    Args:
        inputs: Of each row's input.
        pairs: Of each row's input and label; None where the rows have no labels.
    """

    inputs: Numbers
    pairs: Numbers | None

    @property
    def distinct(self) -> int:
        """How many different inputs there are."""
        return len(np.unique(self.inputs))


@dataclass(frozen=True)
class Shared:
    """Rows of one split whose inputs another one has, too.

    Args:
        rows: How many.
        other_label: How many of them have a label that no such row of the other split has; None without labels.
        first: The first of them, and the first row of the other split with its input.
    """

    rows: int
    other_label: int | None
    first: Pair


@dataclass(frozen=True)
class Contradictions:
    """Rows of one split that have the same input and not the same label.

    Args:
        rows: How many.
        inputs: How many different inputs they have.
        first: The first of them, and the first row that contradicts it.
    """

    rows: int
    inputs: int
    first: Pair


def fingerprints(
    rows: Any,
    columns: Sequence[str],
    label: str | None,
    canonical: Callable[[Any], Any] = lambda value: value,
    asked: Iterator[Any] | None = None,
) -> Fingerprints:
    """The fingerprints of a split.

    Args:
        rows: A `datasets.Dataset`.
        columns: Of the input.
        label: The label's column; None where there is none.
        canonical: What is the same for two writings of one label, JSON-able.
        asked: The inputs, where the columns hold something else, too.
    """
    inputs, pairs = bytearray(), bytearray()
    for cells in columns_of(rows, [*columns, *([label] if label else [])]):
        # What Python writes for texts and lists of them tells any two apart, and ends where it ends.
        given = cells[: len(columns)] if asked is None else next(asked)
        digest = blake2b(repr(given).encode("utf-8", "surrogatepass"), digest_size=8)
        inputs += digest.digest()
        if label:
            digest.update(repr(canonical(cells[-1])).encode())
            pairs += digest.digest()
    return Fingerprints(_numbers(inputs), _numbers(pairs) if label else None)


def shared(split: Fingerprints, other: Fingerprints) -> Shared | None:
    """The rows of a split whose inputs are in another one, too; None where there are none."""
    twice = np.isin(split.inputs, other.inputs, kind="sort")
    if not twice.any():
        return None
    first = int(twice.argmax())
    return Shared(
        rows=int(twice.sum()),
        other_label=None
        if split.pairs is None or other.pairs is None
        else int((twice & ~np.isin(split.pairs, other.pairs, kind="sort")).sum()),
        first=(first, int((other.inputs == split.inputs[first]).argmax())),
    )


def contradictions(split: Fingerprints) -> Contradictions | None:
    """The rows of a split that contradict each other; None where there are none."""
    if split.pairs is None:
        return None
    _, places = np.unique(split.pairs, return_index=True)
    inputs, labels = np.unique(split.inputs[places], return_counts=True)
    contradictory = inputs[labels > 1]
    if not len(contradictory):
        return None
    among = np.isin(split.inputs, contradictory, kind="sort")
    first = int(among.argmax())
    against = (split.inputs == split.inputs[first]) & (split.pairs != split.pairs[first])
    return Contradictions(int(among.sum()), len(contradictory), (first, int(against.argmax())))


def _numbers(digests: bytearray) -> Numbers:
    return np.frombuffer(digests, dtype=np.uint64) if digests else np.empty(0, dtype=np.uint64)
