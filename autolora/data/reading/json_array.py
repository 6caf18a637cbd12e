"""JSON of one value: an array of objects, or ``{"data": [...]}``; what is neither is read as JSON Lines.

The text is decoded an object at a time, so that no more of it is held than the object and a piece of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from autolora.data.reading.json_lines import DECODER, LOOKED_AT, WHITE, cells, open_json_lines
from autolora.data.reading.source import Source
from autolora.data.reading.table import ROW, Row, Table
from autolora.errors import UserError

WRAPPER = "data"  # the key under which a file's one object has its rows
PIECE = 2**20  # characters


def open_json(source: Source) -> Table:
    """A JSON file."""
    text = _Text(source)
    if not text.peek():
        raise UserError(f"{source.path}: the file has only empty lines")
    if text.peek() != "[" and not _enter(text):
        return open_json_lines(source)
    columns: dict[str, None] = {}
    for row in islice(array_objects(source), LOOKED_AT):
        columns |= dict.fromkeys(row)
    if not columns:
        raise UserError(f"{source.path}: must be a JSON array of objects, and has no object with keys in it")
    return Table(str(source.path), list(columns), partial(_rows, source), ROW, more=True)


def _rows(source: Source, wanted: Sequence[str]) -> Iterator[Row]:
    for number, row in enumerate(array_objects(source), 1):
        yield number, cells(row, wanted, partial(place_of, source), number)


def place_of(source: Source, number: int) -> str:
    """Where an object stands, for messages."""
    return ROW.format(file=source.path, number=number)


def is_array(source: Source) -> bool:
    """Whether a file is one JSON value; else it is JSON Lines."""
    text = _Text(source)
    return text.peek() == "[" or _enter(text)


def array_objects(source: Source) -> Iterator[dict[str, Any]]:
    """The objects of a file that is one JSON value."""
    text = _Text(source)
    wrapped = text.peek() == "{"
    if wrapped:
        _enter(text)
    text.take("[")
    while text.peek() != "]":
        place, row = text.place(), text.value()
        if not isinstance(row, dict):
            raise UserError(f"{place}: must be a JSON array of objects, got {row!r:.60} in it")
        yield row
        if text.peek() != "]":
            text.take(",")
    text.take("]")
    if wrapped:
        _leave(text)
    if text.peek():
        raise UserError(f"{text.place()}: the file goes on after its JSON value; name a file of JSON Lines .jsonl")


def _enter(text: _Text) -> bool:
    """Go on to the list of objects that the one object of a file has under `WRAPPER`; False where it has none."""
    try:
        text.take("{")
        while text.peek() == '"':
            key = text.value()
            text.take(":")
            if key == WRAPPER and text.peek() == "[" and text.second() == "{":
                return True
            text.value()
            if text.peek() != ",":
                return False
            text.take(",")
    except UserError:  # JSON Lines, perhaps: its reader says what is wrong
        return False
    return False


def _leave(text: _Text) -> None:
    """Go on to the end of the object."""
    while text.peek() == ",":
        text.take(",")
        text.value()
        text.take(":")
        text.value()
    text.take("}")


class _Text:
    """The text of a file from a position on, as much of it as was needed so far."""

    def __init__(self, source: Source) -> None:
        self.source, self.lines = source, source.raw_lines()
        self.text, self.position, self.line, self.piece = "", 0, 1, PIECE

    def peek(self) -> str:
        """The next character that is no white space, "" at the end."""
        while True:
            while self.position < len(self.text):
                if self.text[self.position] not in WHITE:
                    return self.text[self.position]
                self.position += 1
            if not self._more():
                return ""

    def second(self) -> str:
        """The character after the next one, white space left out."""
        while not (rest := self.text[self.position + 1 :].lstrip(WHITE)) and self._more():
            pass
        return rest[:1]

    def take(self, wanted: str) -> None:
        """Go over a character.

        Raises:
            UserError: Another one stands there.
        """
        found = self.peek()
        if found != wanted:
            shown = f"{found!r} stands" if found else "the file ends"
            raise UserError(f"{self.place()}: the file is no JSON: {shown} where there must be {wanted!r}")
        self.position += 1

    def value(self) -> Any:
        """Go over a value.

        Raises:
            UserError: None stands there.
        """
        self.peek()
        self.piece = PIECE
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.position)
                if end < len(self.text) or not self._more():
                    self.position = end
                    return value
            except json.JSONDecodeError as error:
                if not self._more():
                    line = self.line + error.doc.count("\n", 0, error.pos)
                    raise UserError(f"{self.source.at(line)}: the file is no JSON: {error.msg}") from None
            except RecursionError:
                raise UserError(
                    f"{self.place()}: the file is no JSON that can be read: it is nested too deeply"
                ) from None

    def place(self) -> str:
        """Where the position is."""
        return self.source.at(self.line + self.text.count("\n", 0, self.position))

    def _more(self) -> bool:
        """Read on, twice as much each time; False at the end of the file."""
        read: list[str] = []
        size = 0
        while size < self.piece and (line := next(self.lines, None)):
            read.append(line)
            size += len(line)
        if not read:
            return False
        self.line += self.text.count("\n", 0, self.position)
        self.text, self.position = self.text[self.position :] + "".join(read), 0
        self.piece *= 2
        return True
