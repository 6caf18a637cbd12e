"""Mutations: of bytes, of a value as JSON or YAML has it, of the lines of a text."""

from __future__ import annotations

import copy
import datetime
import math
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

# What people and other programs put where something else was meant.
NUMBERS = [
    0,
    -1,
    1,
    2,
    3,
    0.5,
    -0.0,
    1e-320,
    1e308,
    -1e308,
    1e12,
    10**12,
    2**63,
    -(2**63),
    10**400,
    2**31,
    math.inf,
    math.nan,
]
TEXTS = [
    "", " ", "\t", "\x00", "a\x00b", "\x1b[31mred",
    "\u202eabc", "../x", "/", "/etc/passwd", "~", ".", "..", "a/b/../../c",
    "x" * 300, "x" * 70_000, "null", "true", "NaN", "1e3", "010", "1:30", "0x10", "é", "数据", "😀", "=1+1",
    "<b>", "$HOME",
    "%s", "{x}", "{{x}}", "[red]", "train", "auto", "all-linear", "lora", "cola", "-1", "0", "fraction=0.5", "rank=2",
]  # fmt: skip
OTHERS: list[Any] = [None, True, False, [], {}, [1], ["a", None], {"a": 1}, [[]], [[[["x"]]]], {"": {}}]
# fmt: off
BYTES = [
    *(
        b"\x00",
        b"\xff",
        b"\xfe\xff",
        b"\xef\xbb\xbf",
        b"\r",
        b"\n",
        b"\r\n",
        b"\t",
        b",",
        b'"',
        b"'",
        b"\\",
        b"\xe2\x80\xa8",
    ),
    *(
        b"\xf0\x9f\x98",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b"#",
        b"\x1b[31m",
        b"\x1a",
        b"\\ud800",
        b"1e999",
        b"NaN",
        b"  ",
        b"-",
    ),
]


def bytes_of(data: bytes, rng: Random) -> bytes:
    """`data` with one change."""
    change = rng.choice(
        [_flip, _flip, _flip, _truncate, _truncate, _cut, _double, _insert, _insert, _zero, _empty, _tail]
    )
    return change(data, rng)


def _flip(data: bytes, rng: Random) -> bytes:
    if not data:
        return b"\x01"
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def _truncate(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _span(data: bytes, rng: Random) -> tuple[int, int]:
    first = rng.randrange(len(data) + 1)
    return first, min(len(data), first + rng.choice([1, 2, 8, 40, 400]))


def _cut(data: bytes, rng: Random) -> bytes:
    first, last = _span(data, rng)
    return data[:first] + data[last:]


def _double(data: bytes, rng: Random) -> bytes:
    first, last = _span(data, rng)
    return data[:last] + data[first:last] * rng.choice([1, 1, 2, 100]) + data[last:]


def _insert(data: bytes, rng: Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice(BYTES) * rng.choice([1, 1, 1, 2, 1000]) + data[place:]


def _zero(data: bytes, rng: Random) -> bytes:
    first, last = _span(data, rng)
    return data[:first] + bytes(last - first) + data[last:]


def _empty(data: bytes, rng: Random) -> bytes:
    return b""


def _tail(data: bytes, rng: Random) -> bytes:
    return data + rng.choice([b"x", bytes(100), data, b"\n\n", b"{}"])


def value_of(rng: Random) -> Any:
    """Something that does not belong there."""
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(NUMBERS)
    if kind < 0.75:
        return rng.choice(TEXTS)
    return copy.deepcopy(rng.choice(OTHERS))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of everything in a value, itself first."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for i in range(min(len(value), 50)):
            yield from places(value[i], (*path, i))


def tree(value: Any, rng: Random, names: Callable[[], str] | None = None) -> Any:
    """`value` with something in it replaced, left out, added, renamed or exchanged.

    Args:
        value: Of JSON's types; it is not changed.
        rng: Says what.
        names: Gives a key that might be added; None for any.
    """
    value = copy.deepcopy(value)
    paths = list(places(value))
    path = rng.choice(paths[1:] or paths)
    if not path:
        return value_of(rng)
    parent = value
    for part in path[:-1]:
        parent = parent[part]
    key = path[-1]
    change = rng.choice(["near"] * 3 + ["replace"] * 5 + ["remove", "add", "rename", "exchange"])
    if change == "near" and isinstance(parent[key], int | float | str):
        parent[key] = _near(parent[key], rng)
    elif change in ("near", "replace") or (change in ("rename", "add") and not isinstance(parent, dict)):
        parent[key] = value_of(rng)
    elif change == "remove":
        del parent[key]
    elif change == "add":
        parent[names() if names else rng.choice(["x", "", "format", "state"])] = value_of(rng)
    elif change == "rename":
        parent[f"{key}{rng.choice(['s', ' ', '_', 'é'])}"] = parent.pop(key)
    else:
        other = rng.choice(paths[1:])
        if other[: len(path)] != path and path[: len(other)] != other:
            holder = value
            for part in other[:-1]:
                holder = holder[part]
            parent[key], holder[other[-1]] = holder[other[-1]], parent[key]
    return value


def _near(value: Any, rng: Random) -> Any:
    """What might as well stand there."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return rng.choice([value.upper(), value + "x", value[:-1], value.replace("-", "_"), f" {value}", value[::-1]])
    return rng.choice([value + 1, value * 2, value / 2, -value, value * 10, str(value), float(value), value // 2])


def yaml_lines(text: str, rng: Random) -> str:
    """A YAML text with one line that its author would be surprised by."""
    lines = text.split("\n")
    place = rng.randrange(len(lines))
    line = lines[place]
    key, colon, rest = line.partition(":")
    value = rng.choice([
        "010", "0o10", "1:30", "1_000", "0x10", "1e3", "1.e3", ".5", "+1", "yes", "off", "~", "2020-01-01", "!!int 3",
        "!!python/object/apply:os.system [id]", "!!binary aGk=", "!!timestamp 2020-01-01", "&a [*a]", "*a", "&a 1",
        "<<",
        ".inf", ".nan", "9" * 5000, "'", '"', "|", "> x", "@x", "`x`", "%x", "- x", "{", "[", "? x", "# x", "",
        str(datetime.date(2020, 1, 1)), "[" * 500, "{a: " * 200, '"\\x1b[31m"', '"\\0"', "\x07", "\x85", "\ufeff",
    ])  # fmt: skip
    change = rng.choice(
        ["value", "value", "value", "indent", "double", "drop", "tab", "bomb", "crlf", "utf16", "cut", "end"]
    )
    if change == "value" and colon:
        lines[place] = f"{key}: {value}"
    elif change == "indent":
        lines[place] = rng.choice([" ", "  ", "      "]) + line
    elif change == "double":
        lines.insert(place, line)
    elif change == "drop":
        del lines[place]
    elif change == "tab":
        lines[place] = "\t" + line
    elif change == "bomb":
        return _bomb(text, rng)
    elif change == "crlf":
        return text.replace("\n", rng.choice(["\r\n", "\r"]))
    elif change == "cut":
        return text[: rng.randrange(len(text) + 1)]
    elif change == "end":
        return text + rng.choice(["---\na: 1\n", "...\n", "task: x\n", "x:\n" + " " * 9000 + "y: 1\n", "\x00"])
    else:
        lines[place] = f"{key}{colon}{rest} {value}"
    return "\n".join(lines)


def _bomb(text: str, rng: Random) -> str:
    """Aliases of aliases, ten to the ninth of them."""
    levels = [f"a0: &a0 [{'x, ' * 9}x]"]
    levels += [f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}*a{i - 1}]" for i in range(1, rng.choice([2, 9, 30]))]
    return "\n".join(levels) + "\n" + text


def deep(rng: Random) -> bytes:
    """JSON that goes deeper, or says more, than readers like."""
    return rng.choice([
        b"[" * 100_000, b"[" * 3000 + b"]" * 3000, b'{"a":' * 3000 + b"1" + b"}" * 3000, b"9" * 20_000, b"1e999999",
        b'"' + b"x" * 5_000_000 + b'"', b"NaN", b"null", b"true", b"[]", b"{}", b'""', b"0", b'{"a": 1, "a": 2}',
        b'"\\ud800"', b"\xff\xfe[\x00]\x00", b"\xef\xbb\xbf{}", b"[1,]", b"{'a': 1}", b"\x00" * 4096,
    ])  # fmt: skip
