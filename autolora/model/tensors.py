"""Shapes and types of a safetensors file, read off its header: ``header(Path("model.safetensors"))``.

The library's own reader imports numpy for it, which takes longer than all else that checks a recipe. So a header
is read here where it is plain and whole, and else by the library, which says what is wrong with it.
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

from autolora.errors import UserError

Header = dict[str, tuple[list[int], str]]

LENGTH, LONGEST = 8, 100_000_000  # bytes of the header's length; of the header, at most, as in the library
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def header(file: Path) -> Header:
    """Shape and type of every tensor, by name.

    Args:
        file: With one of safetensors.

    Raises:
        UserError: It is none, or not whole.
    """
    return _plain(file) or _by_library(file)


def _plain(file: Path) -> Header | None:
    """None where anything is not as it mostly is."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(LENGTH), "little")
        text = opened.read(length) if length <= min(LONGEST, size - LENGTH) else b""
    try:
        found = json.loads(text.decode())
        found.pop("__metadata__", None)
        tensors = sorted(found.items(), key=lambda item: item[1]["data_offsets"])
        return _whole(tensors, size - LENGTH - length)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _whole(tensors: list[tuple[str, Any]], size: int) -> Header | None:
    """The tensors in the data's order, if they are all of it and each has the bytes of its shape."""
    end = 0
    for _, tensor in tensors:
        begin, stop = tensor["data_offsets"]
        if begin != end or stop - begin != BYTES[tensor["dtype"]] * prod(tensor["shape"]):
            return None
        if not all(type(number) is int and number >= 0 for number in (begin, stop, *tensor["shape"])):
            return None
        end = stop
    if end != size:
        return None
    return {name: (tensor["shape"], tensor["dtype"]) for name, tensor in sorted(tensors, key=lambda item: item[0])}


def _by_library(file: Path) -> Header:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="numpy") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            return {name: (each.get_shape(), each.get_dtype()) for name, each in slices.items()}
    except SafetensorError as error:
        raise UserError(f"{file} is no whole safetensors file ({error}); was it downloaded completely?") from None
