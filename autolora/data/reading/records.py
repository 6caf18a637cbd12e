"""Rows by the names of their columns, with all columns or some: ``for record in file_records(source): …``.

The readers of training data give the cells of wanted columns only. Whoever passes rows on wants them as they are: a
file's with `file_records`, those of standard input as they arrive with `stream_records`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from typing_extensions import override

from autolora.data.reading.formats import READERS
from autolora.data.reading.json_array import array_objects, is_array, place_of
from autolora.data.reading.json_lines import cells, json_objects
from autolora.data.reading.source import Source
from autolora.data.reading.table import require
from autolora.data.reading.tables import csv_records, first_line, fitting, tsv_records
from autolora.errors import UserError

STREAMED = ("jsonl", "tsv", "csv")  # formats that need no second look at their beginning
_TABLES = {"tsv": (tsv_records, "\t"), "csv": (csv_records, ",")}


@dataclass(frozen=True)
class Record:
    """A row.

    Args:
        place: Where it stands: file and line, or file and row.
        cells: By column, as the reader gives them; a column that is not there is a missing cell.
    """

    place: str
    cells: Mapping[str, Any]


@dataclass(frozen=True)
class Stream(Source):
    """What can be read once, such as standard input.

    Args:
        path: What it is called.
        binary: Its bytes.
    """

    binary: BinaryIO = field(default_factory=io.BytesIO)

    @override
    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        yield self.binary


def file_records(source: Source, kind: str | None = None, wanted: Sequence[str] | None = None) -> Iterator[Record]:
    """The rows of a file.

    Args:
        source: The file.
        kind: Its format, where its name does not say it: one of `READERS` without the dot.
        wanted: The columns to read, where that is not all of them. JSON gives all there are.

    Raises:
        UserError: The file is none of its format; the message names file and line.
    """
    suffix = f".{kind}" if kind else source.suffix
    if suffix not in READERS:
        raise UserError(
            f"{source.path}: its name does not end in {', '.join(READERS)} (compressed or not); rename it, or say "
            "what it is with --input-format"
        )
    if source.path.stat().st_size == 0:
        raise UserError(f"{source.path}: the file is empty")
    if suffix == ".json" and is_array(source):
        for number, row in enumerate(array_objects(source), 1):
            yield _whole(row, place_of(source, number))
    elif suffix in (".json", ".jsonl"):
        yield from _lines(source)
    else:
        table = READERS[suffix](source)
        names = list(table.columns) if wanted is None else [name for name in table.columns if name in wanted]
        require(table.columns, names, table.file)
        for number, found in table.rows(names):
            yield Record(table.at(number), dict(zip(names, found, strict=True)))


def stream_records(source: Source, kind: str = "jsonl") -> Iterator[Record]:
    """The rows of what can be read once, each as soon as it is there.

    Args:
        source: Standard input, or a pipe.
        kind: One of `STREAMED`.

    Raises:
        UserError: It is none of this format; the message names the line.
    """
    if kind == "jsonl":
        yield from _lines(source)
        return
    read, delimiter = _TABLES[kind]
    records = read(source)
    header = first_line(records, source)
    require(header, header, str(source.path))
    for line, fields in fitting(records, header, source, delimiter):
        yield Record(source.at(line), dict(zip(header, fields, strict=True)))


def standard_input(binary: BinaryIO, encoding: str) -> Stream:
    """What comes in on standard input.

    Args:
        binary: Its bytes.
        encoding: A codec's name.
    """
    return Stream(Path("standard input"), encoding, binary=binary)


def _lines(source: Source) -> Iterator[Record]:
    for number, row in json_objects(source):
        yield _whole(row, source.at(number))


def _whole(row: dict[str, Any], place: str) -> Record:
    """All of an object, which has no key twice."""
    names = list(row)
    return Record(place, dict(zip(names, cells(row, names, lambda number: place, 0), strict=True)))
