"""From rows of cells to a `datasets.Dataset` that lies on disk: ``rows, report = spool(parts, columns)``.

Memory holds a batch of rows, however many there are and however long their texts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from autolora.data.cells import Cell, Digits, Kind, cell, half_character
from autolora.data.reading.table import Row
from autolora.data.splits import Report, Seen
from autolora.errors import UserError

ROWS, CHARACTERS = 1000, 2**22  # of a batch, at most
TEXTS = ("text", "name", "any")  # kinds of cells that take a text as it is


@dataclass(frozen=True)
class Column:
    """A column to keep.

    Args:
        name: In the data.
        kind: What it holds.
        optional: Whether a row may lack it.
        absent: Whether a whole split may lack it, in all of its files; one that has it has it in every row.
        unshown: Whether no file's beginning shows it: it is left out again where it is optional and no row has it.
    """

    name: str
    kind: Kind
    optional: bool = False
    absent: bool = False
    unshown: bool = False


@dataclass(frozen=True)
class Part:
    """One file of a split, or another source of rows: these, anew at each call, and how a row's place is written."""

    rows: Callable[[], Iterator[Row]]
    place: Callable[[int], str]


class _MixedError(Exception):
    """A list, in a column of texts so far."""


def spool(
    parts: Sequence[Part], columns: Sequence[Column], *, drop: bool = False, names_in: str | None = None
) -> tuple[datasets.Dataset, Report]:
    """The rows of a split.

    Args:
        parts: In order.
        columns: What is kept; the cells of the parts' rows are these, in order.
        drop: Leave out rows with a missing cell, instead of refusing them.
        names_in: The column whose labels are counted, if one is.

    Raises:
        UserError: A cell is missing, or is none of its kind; the message has the row's place.
    """
    lists = {column.name for column in columns if column.kind == "list"}
    while True:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # the rows stay mapped when it is gone
            path = Path(folder) / "rows.arrow"
            spooler = _Spooler(columns, lists, drop, names_in)
            try:
                spooler.write(parts, path)
            except _MixedError as mixed:  # begin anew: texts will be lists of one
                lists.add(str(mixed))
                continue
            rows = datasets.Dataset.from_file(str(path))
            return rows.remove_columns(sorted(unseen)) if (unseen := spooler.unseen) else rows, spooler.report


class _Spooler:
    def __init__(self, columns: Sequence[Column], lists: set[str], drop: bool, names_in: str | None) -> None:
        self.columns, self.lists, self.drop = columns, lists, drop
        self.texts = [column.kind in TEXTS and column.name not in lists for column in columns]
        self.counted = next((i for i, column in enumerate(columns) if column.name == names_in), None)
        self.unseen = {column.name for column in columns if column.optional and column.unshown}  # no row has it so far
        self.report = Report()
        self.batch: list[list[Cell]] = []
        self.size = 0

    def write(self, parts: Iterable[Part], path: Path) -> None:
        types = [pa.list_(pa.string()) if column.name in self.lists else pa.string() for column in self.columns]
        schema = pa.schema(list(zip((column.name for column in self.columns), types, strict=True)))
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            for part in parts:
                self.report.places.begin(part.place)
                for number, cells in part.rows():
                    if (row := self._row(cells, number, part)) is None:
                        continue
                    self._note(row, number)
                    if len(self.batch) >= ROWS or self.size >= CHARACTERS:
                        self._flush(writer, schema)
            self._flush(writer, schema)

    def _row(self, cells: Sequence[Any], number: int, part: Part) -> list[Cell] | None:
        """The cells of a row as they are written; None where the row is dropped."""
        row: list[Cell] = []
        for value, column, text in zip(cells, self.columns, self.texts, strict=True):
            kind = type(value)
            if text and (kind is Digits or (kind is str and value and not value.isspace())):
                row.append(value)  # as nearly all are; `cell` would give it as it is
                continue
            if value is None and column.optional:
                row.append(None)
                continue
            found = self._cell(value, column, part, number)
            if found is None and not column.optional:
                if not self.drop:
                    raise UserError(
                        f"{part.place(number)}: {column.name!r} is missing; fill it in, or leave such rows out with "
                        "data.missing: drop"
                    )
                self.report.dropped += 1
                self.report.first_dropped = self.report.first_dropped or part.place(number)
                return None
            row.append(found)
        return row

    def _cell(self, value: Any, column: Column, part: Part, number: int) -> Cell:
        try:
            found = cell(value, column.kind)
        except UserError as error:
            if column.optional:
                return None
            raise UserError(f"{part.place(number)}: {column.name!r} {error}") from None
        if isinstance(found, list) and column.name not in self.lists:
            raise _MixedError(column.name)
        return [found] if isinstance(found, str) and column.name in self.lists else found

    def _note(self, row: list[Cell], number: int) -> None:
        self.batch.append(row)
        self.size += sum(map(_characters, row))
        self.report.places.add(number)
        if self.counted is not None:
            found = row[self.counted]
            for name in found if isinstance(found, list) else [found]:
                if name is not None:
                    self._count(name)
        self.report.rows += 1

    def _count(self, name: str) -> None:
        seen = self.report.labels.get(name)
        if seen is None:
            seen = self.report.labels[name] = Seen(0, self.report.rows)
        seen.count += 1

    def _flush(self, writer: Any, schema: Any) -> None:
        if not self.batch:
            return
        try:
            columns = [list(column) for column in zip(*self.batch, strict=True)]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            self._see(columns)
        except UnicodeEncodeError:
            raise self._half_character() from None
        self.batch, self.size = [], 0

    def _see(self, columns: Sequence[Sequence[Cell]]) -> None:
        for column, found in zip(self.columns, columns, strict=True) if self.unseen else ():
            if column.name in self.unseen and any(each is not None for each in found):
                self.unseen.remove(column.name)

    def _half_character(self) -> UserError:
        """Says in which row of the batch a text has half a character, which JSON can write and nothing else."""
        first = self.report.rows - len(self.batch)
        for i, row in enumerate(self.batch):
            for column, found in zip(self.columns, row, strict=True):
                for text in found if isinstance(found, list) else [found]:
                    if fault := half_character(text or ""):
                        return UserError(f"{self.report.places(first + i)}: {column.name!r} {fault}")
        raise AssertionError("a text that cannot be encoded has a surrogate in it")


def _characters(found: Cell) -> int:
    if isinstance(found, str):
        return len(found)
    return sum(map(len, filter(None, found))) if found else 0
