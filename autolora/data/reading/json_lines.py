"""JSON Lines: an object a line. Numbers keep the text that they are written as."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from autolora.data.cells import Digits, Written
from autolora.data.reading.source import Source
from autolora.data.reading.table import Row, Table
from autolora.errors import UserError

LOOKED_AT = 100  # rows that are asked for their keys: a row may lack some, and later ones may have more

WHITE = " \t\r\n"  # white space, to JSON


class _Doubled(dict[str, Any]):
    """An object that has keys twice."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        keys = [key for key, _ in pairs]
        self.doubled = {key for key in keys if keys.count(key) > 1}


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    return made if len(made) == len(pairs) else _Doubled(pairs)


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=Written, parse_int=Digits, parse_constant=Written)


def open_json_lines(source: Source) -> Table:
    """A file with an object a line."""
    columns: dict[str, None] = {}
    for _, row in islice(json_objects(source), LOOKED_AT):
        columns |= dict.fromkeys(row)
    if not columns:
        raise UserError(f"{source.path}: the file has only empty lines, or objects without keys")
    return Table(str(source.path), list(columns), partial(_rows, source), more=True)


def _rows(source: Source, wanted: Sequence[str]) -> Iterator[Row]:
    for number, row in json_objects(source):
        yield number, cells(row, wanted, source.at, number)


def json_objects(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number of each line that is not empty, and its object."""
    for number, line in source.lines():
        if line.strip():
            yield number, json_object(line, source, number)


def json_object(line: str, source: Source, number: int, decoder: json.JSONDecoder = DECODER) -> dict[str, Any]:
    """One line of JSON Lines; numbers are numbers with another decoder.

    Raises:
        UserError: It is no object; the message has the line's place in front.
    """
    try:
        row = decoder.decode(line.rstrip(WHITE))
    except json.JSONDecodeError as error:
        raise UserError(f"{source.at(number)}: the line is no JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise UserError(f"{source.at(number)}: the line is no JSON that can be read: it is nested too deeply") from None
    if not isinstance(row, dict):
        raise UserError(f"{source.at(number)}: the line must be a JSON object, got {line.strip()[:60]}")
    return row


def cells(row: dict[str, Any], wanted: Sequence[str], place: Callable[[int], str], number: int) -> list[Any]:
    """The cells of the object with this number.

    Raises:
        UserError: It has one of these keys twice.
    """
    if isinstance(row, _Doubled) and (twice := [name for name in wanted if name in row.doubled]):
        raise UserError(f"{place(number)}: the object has the key {twice[0]!r} twice; leave one out")
    return [row.get(name) for name in wanted]
