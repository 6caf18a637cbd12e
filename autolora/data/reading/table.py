"""What a reader gives of a file: `Table`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autolora.errors import UserError
from autolora.words import did_you_mean

Row = tuple[int, Sequence[Any]]  # the number of the line or row, from 1, and the cells as they stand in the file
LINE, ROW = "{file}:{number}", "{file}, row {number}"


@dataclass(frozen=True)
class Table:
    """A file whose beginning was read.

    Args:
        file: Its path, for messages.
        columns: All names that its beginning shows, as they stand there: a name may stand there twice.
        rows: From the columns that are wanted to the rows, each with the cells in that order. None is a missing cell.
        place: How the place of a row is written: `LINE` or `ROW`.
        names: The class names of columns that carry their own; their cells are names already.
        more: Whether rows further down may have columns that the beginning does not show, as objects of JSON may;
            `rows` then takes any name.
    """

    file: str
    columns: Sequence[str]
    rows: Callable[[Sequence[str]], Iterator[Row]]
    place: str = LINE
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    more: bool = False

    def at(self, number: int) -> str:
        """The place of a row."""
        return self.place.format(file=self.file, number=number)


def require(columns: Sequence[str], wanted: Sequence[str], file: str) -> None:
    """Check that a file names each wanted column, and names it once.

    Raises:
        UserError: It does not.
    """
    for name in wanted:
        if wrong := column_fault(columns, name, file):
            message, near = wrong
            raise UserError(f"{message}{f'; {near}' if near else ''}")


def column_fault(columns: Sequence[str], name: str, file: str) -> tuple[str, str] | None:
    """What is wrong with a column that is wanted of a file, and what may be meant; None where nothing is."""
    if name not in columns:
        return f"no column {name!r} in {file}; it has: {', '.join(columns)}", _hint(name, columns)
    if (times := list(columns).count(name)) > 1:
        return f"{file} has {times} columns of the name {name!r}; rename all but the one that is meant", ""
    return None


def _hint(name: str, columns: Sequence[str]) -> str:
    """The column that is meant, or that the columns are parted by another sign than the file's ending says."""
    if len(columns) == 1 and (sign := next((sign for sign in ";\t|," if sign in columns[0]), None)):
        return f"are the columns parted by {sign!r}? save the file with commas as .csv, or with tabs as .tsv"
    return did_you_mean(name, columns)
