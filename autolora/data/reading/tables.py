"""CSV and TSV: a header that names the columns, then a row with as many fields each.

CSV is that of RFC 4180: a field with a comma, a quote or a line break in it stands in double quotes, in which a quote
is doubled; a backslash is a character. In TSV there is no quoting at all: a quote is a character, too.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from autolora.data.reading.source import Source
from autolora.data.reading.table import Row, Table, require
from autolora.errors import UserError

Record = tuple[int, list[str]]  # the line that a row begins at, and its fields
LONGEST = 2**31 - 1  # characters of a field; the csv module's own limit is 131072
ADVICE = {
    ",": "put a field that holds a comma into double quotes",
    "\t": "a field cannot hold a tab or a line break",
}
RFC = "CSV follows RFC 4180: a field with a quote in it stands in quotes, and the quote in it is doubled"
_MALFORMED = {
    "unexpected end of data": f"the quote that opens in this row is never closed; {RFC}",
    "',' expected after '\"'": f"a quoted field goes on after its closing quote; {RFC}",
    "new-line character": "a carriage return stands in a field without quotes; put the field into quotes",
}


def open_csv(source: Source) -> Table:
    """A CSV file."""
    return _open(source, csv_records, ",")


def open_tsv(source: Source) -> Table:
    """A TSV file."""
    return _open(source, tsv_records, "\t")


def _open(source: Source, read: Callable[[Source], Iterator[Record]], delimiter: str) -> Table:
    records = read(source)
    header = first_line(records, source)
    if next(records, None) is None:
        raise UserError(f"{source.path}: the file has no rows, only the columns' names")
    return Table(str(source.path), header, partial(_rows, source, read, delimiter))


def first_line(records: Iterator[Record], source: Source) -> list[str]:
    """The columns' names.

    Raises:
        UserError: The first line has none.
    """
    line, header = next(records, (1, []))
    if line != 1 or not any(name.strip() for name in header):
        raise UserError(f"{source.at(1)}: the first line must name the columns, got an empty line")
    return header


def _rows(
    source: Source, read: Callable[[Source], Iterator[Record]], delimiter: str, wanted: Sequence[str]
) -> Iterator[Row]:
    records = read(source)
    _, header = next(records)
    require(header, wanted, str(source.path))
    places = [header.index(name) for name in wanted]
    for line, fields in fitting(records, header, source, delimiter):
        yield line, [fields[place] for place in places]


def fitting(records: Iterator[Record], header: Sequence[str], source: Source, delimiter: str) -> Iterator[Record]:
    """The rows below a header.

    Raises:
        UserError: One has another number of fields.
    """
    for line, fields in records:
        if len(fields) != len(header):
            raise UserError(
                f"{source.at(line)}: the row has {len(fields)} fields, the header {len(header)}; {ADVICE[delimiter]}"
            )
        yield line, fields


def tsv_records(source: Source) -> Iterator[Record]:
    """The lines that are not empty, as fields."""
    for number, line in source.lines():
        if line:
            yield number, line.split("\t")


def csv_records(source: Source) -> Iterator[Record]:
    """The rows that are not empty, as fields.

    Raises:
        UserError: A row is not as RFC 4180 has it; the message names the line that it begins at.
    """
    reader = csv.reader(source.raw_lines(), strict=True)
    while True:
        begin = reader.line_num + 1
        limit = csv.field_size_limit(LONGEST)
        try:
            fields = next(reader, None)
        except csv.Error as error:
            said = next((text for part, text in _MALFORMED.items() if part in str(error)), str(error))
            raise UserError(f"{source.at(begin)}: the row is malformed: {said}") from None
        finally:
            csv.field_size_limit(limit)
        if fields is None:
            return
        if fields:
            yield begin, fields
