"""The rows of all splits, with what there is to say about how they were read: `Splits`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Place = Callable[[int], str]  # the file and the line of a row, which is counted from 0


@dataclass
class Seen:
    """A label: in how many rows (or at how many words) it stands, and in which row first, from 0."""

    count: int = 0
    first: int = 0


@dataclass
class Report:
    """How a split was read. Limits come later: these are all of its rows.

    Args:
        rows: How many there are.
        dropped: How many more were left out, since a cell was missing.
        first_dropped: The place of the first of these.
        names: Those that the labels carry in the data, by id.
        labels: Those there are, by name; empty for families whose labels are no names.
        labelled: Whether the rows have labels; where they have none, they can be predicted, not scored.
        places: Where each row stands.
        all_rows: The rows (`datasets.Dataset`), mapped from disk; those of the split may be fewer.
    """

    rows: int = 0
    dropped: int = 0
    first_dropped: str = ""
    names: Sequence[str] | None = None
    labels: dict[str, Seen] = field(default_factory=dict)
    labelled: bool = True
    places: Places = field(default_factory=lambda: Places())
    all_rows: Any = None


class Places:
    """Where each row of a split stands; called with a row's number, from 0."""

    def __init__(self) -> None:
        from array import array

        self.numbers = array("q")
        self.begins: list[int] = []
        self.written: list[Callable[[int], str]] = []

    def begin(self, written: Callable[[int], str]) -> None:
        """The next rows are those of another file."""
        self.begins.append(len(self.numbers))
        self.written.append(written)

    def add(self, number: int) -> None:
        """Of the next row, the number in its file."""
        self.numbers.append(number)

    def of(self, rows: Sequence[int]) -> Places:
        """The places of some of the rows, which are counted anew.

        Args:
            rows: From 0, in their order.
        """
        found = Places()
        for row in rows:
            written = self._written(row)
            if not found.written or found.written[-1] is not written:
                found.begin(written)
            found.add(self.numbers[row])
        return found

    def __call__(self, row: int) -> str:
        """Where a row (0-based) stands: file and line, or row."""
        return self._written(row)(self.numbers[row])

    def _written(self, row: int) -> Callable[[int], str]:
        return self.written[bisect_right(self.begins, row) - 1]


class Splits(dict[str, Any]):
    """The rows (`datasets.Dataset`) by split, and in `reports` how each was read."""

    def __init__(self, rows: dict[str, Any], reports: dict[str, Report]) -> None:
        super().__init__(rows)
        self.reports = reports
