"""What a cell of a data file says: a text, a list of texts, or nothing.

No type is guessed: a text is what stands in the file, and a number the text that it is written as. An empty cell, one
of blanks alone, an empty list, null and NaN all say nothing.
"""

from __future__ import annotations

import decimal
import json
import math
from typing import Any, Literal

from autolora.errors import UserError

Cell = str | list[str | None] | None
# What a column holds. text: a text a row, numbers as they are written. name: a text a row, 1.0 as 1. list: a list of
# texts a row. any: a text or a list of texts. nested: whatever JSON can say, kept as JSON. blank: the same, where null
# and a text of nothing are said, too.
Kind = Literal["text", "name", "list", "any", "nested", "blank"]
NESTED = ("nested", "blank")  # those that are kept as JSON


class Written(str):
    """A number with a fraction or an exponent, as it is written in the file."""

    __slots__ = ()


class Digits(str):
    """A whole number, as it is written in the file."""

    __slots__ = ()


def cell(value: Any, kind: Kind) -> Cell:
    """What a cell says, None where it says nothing.

    Args:
        value: As the file's reader gives it.
        kind: What its column holds.

    Raises:
        UserError: It is of another kind; the message has no place in it.
    """
    if kind in NESTED:
        return _nested(value, said=kind == "blank")
    if type(value) is str:
        if kind == "list" and value:
            raise UserError(f"must be a list, got {value[:60]!r}")
        return value if value and not value.isspace() else None
    if isinstance(value, list | tuple):
        if kind == "text":
            raise UserError(f"must be text, got the list {value!r:.60}")
        if kind == "name":
            raise UserError(f"must be one label a row, got the list {value!r:.60}")
        return [_text(item, kind) for item in value] or None
    text = _text(value, kind)
    if kind == "list" and text:
        raise UserError(f"must be a list, got {text[:60]}")
    return text or None


def _nested(value: Any, *, said: bool) -> str | None:
    """A cell of any shape as JSON, numbers as texts; None where it says nothing and that is not something to be said.

    Keys of null are left out: Parquet writes them for whatever another row has.
    """
    plain = _plain(value)
    nothing = plain is None or plain == [] or (isinstance(plain, str) and not plain.strip())
    return None if nothing and not said else json.dumps(plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, dict):
        if doubled := getattr(value, "doubled", None):
            raise UserError(f"has an object with the key {min(doubled)!r} twice; leave one out")
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return _text(value, "text")


def _text(value: Any, kind: Kind) -> str | None:
    """One text. Booleans are written as in JSON."""
    if isinstance(value, Written):
        return _number(value, kind)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, decimal.Decimal) and kind == "name" and decimal.Decimal(repr(float(value))) != value:
        written = f"{value:f}"  # has more digits than a float holds: two numbers would be one name
        return written.rstrip("0").rstrip(".") if "." in written else written
    if isinstance(value, float | decimal.Decimal):
        return _number(str(value), kind)
    raise UserError(f"must be text, a number or a list of them, got {value!r:.60}")


def _number(written: str, kind: Kind) -> str | None:
    number = float(written)
    if math.isnan(number):
        return None
    if kind != "name" or not math.isfinite(number):
        return written
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)


def half_character(text: str) -> str:
    """What is wrong with a text that JSON can write and nothing else can; "" where nothing is."""
    half = next((sign for sign in text if "\ud800" <= sign <= "\udfff"), None)
    return f"has half a character in it, \\u{ord(half):04x}; write the whole pair, or leave it out" if half else ""
