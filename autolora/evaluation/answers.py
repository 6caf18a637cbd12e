r"""Answers to rows as a file or a stream has them: JSON Lines, TSV or CSV, a record for each row.

In JSON Lines, lists and objects are themselves; in a cell of TSV or CSV they are JSON. TSV has no quoting: a tab, a
line break and a backslash are written ``\t``, ``\n``, ``\r`` and ``\\``. In CSV, what a spreadsheet would take for a
formula has an apostrophe in front (`autolora.safe.csv_cell`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from autolora.data.cells import Digits, Written
from autolora.errors import UserError
from autolora.tables import csv_line

FORMATS = ("jsonl", "tsv", "csv")
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class AnswerWriter:
    """Writes records to a stream of bytes, in UTF-8.

    Args:
        stream: Where they go; it is flushed by whoever owns it.
        kind: One of `FORMATS`.
    """

    def __init__(self, stream: BinaryIO, kind: str) -> None:
        self.stream, self.kind = stream, kind
        self.header: list[str] | None = None

    def write(self, place: str, kept: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Write one record.

        Args:
            place: Where the row stands, for messages.
            kept: What is passed on of the row, by column, as its reader gives it.
            answer: What the model says.

        Raises:
            UserError: A column of the row is called as one of the answer's, or a table has no column of its name.
        """
        if twice := [name for name in answer if name in kept]:
            raise UserError(
                f"{place} has a column {twice[0]!r} of its own, and so has the answer; rename it, or name the columns "
                "to pass on with --keep"
            )
        record = {**{name: _given(value) for name, value in kept.items()}, **answer}
        text = json.dumps(record, ensure_ascii=False, default=str) + "\n" if self.kind == "jsonl" else ""
        # Half a character, which a row may have in a column that is passed on, is written as JSON writes it.
        self.stream.write((text or self._row(record, place)).encode("utf-8", "backslashreplace"))

    def _row(self, record: Mapping[str, Any], place: str) -> str:
        first = self.header is None
        header = self.header = self.header or list(record)
        if more := [name for name in record if name not in header]:
            raise UserError(
                f"{place} has a column {more[0]!r}, which the first row has not, and the first line names them all; "
                "write --format jsonl, or name the columns to pass on with --keep"
            )
        line = self._line([_cell(record.get(name)) for name in header])
        return self._line(header) + line if first else line

    def _line(self, cells: Sequence[str]) -> str:
        if self.kind == "tsv":
            return "\t".join(cell.translate(_ESCAPES) for cell in cells) + "\n"
        return csv_line(cells)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _given(value: Any) -> Any:
    """A value of a row as JSON has it: numbers are numbers again, and what is no number is null."""
    if isinstance(value, Digits):
        return int(value)
    if isinstance(value, Written):
        return _number(float(value))
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return {name: _given(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_given(item) for item in value]
    return value


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
