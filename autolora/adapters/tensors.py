"""A safetensors file read and written one tensor at a time, so that memory stays at the largest of them.

    file = TensorFile(path)
    file.entries["base_model.model.q.lora_A.weight"].shape
    file.read("base_model.model.q.lora_A.weight")

The format is eight bytes for the length of a header, the header as JSON, and the tensors behind each other. The
library checks a file whole; what it hands out maps the file into memory, so the bytes are read here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from autolora.errors import UserError
from autolora.files import parse_json

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
LARGEST_HEADER = 16 << 20  # bytes; 1000 layers have 0.2 MiB


@dataclass(frozen=True)
class Entry:
    """What the header says of a tensor.

    Args:
        dtype: As safetensors calls it.
        shape: Its own.
        begin: The first byte, from the file's beginning.
        size: In bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    size: int

    @property
    def numbers(self) -> int:
        """How many it holds."""
        return math.prod(self.shape)


class TensorFile:
    """A safetensors file.

    Args:
        path: The file.

    Raises:
        UserError: It is missing, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if length > LARGEST_HEADER:
                    raise UserError(
                        f"{path} cannot be loaded (its header would have {length} bytes); have it sent anew"
                    )
                header = parse_json(file.read(length))
            with safe_open(str(path), framework="numpy"):  # every offset lies in the file, and fits its shape
                pass
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(f"{path} cannot be loaded ({error})") from None
        self.metadata: dict[str, str] = header.pop("__metadata__", None) or {}
        self.entries: dict[str, Entry] = {}
        for name, found in header.items():
            begin, end = found["data_offsets"]
            self.entries[name] = Entry(found["dtype"], tuple(found["shape"]), 8 + length + begin, end - begin)

    def raw(self, name: str) -> bytearray:
        """A tensor's bytes.

        Args:
            name: In the file.

        Raises:
            UserError: The file has become shorter since it was opened.
        """
        entry = self.entries[name]
        with self.path.open("rb") as file:
            file.seek(entry.begin)
            found = bytearray(entry.size)
            if file.readinto(found) != entry.size:
                raise UserError(f"{self.path} has changed while it was read")
        return found

    def read(self, name: str) -> Tensor:
        """A tensor of floating-point numbers.

        Args:
            name: In the file.

        Raises:
            UserError: It is of another type.
        """
        entry = self.entries[name]
        if entry.dtype not in DTYPES:
            raise UserError(
                f"{self.path}: {name} is of type {entry.dtype}; what is decomposed is one of {', '.join(DTYPES)}"
            )
        if not entry.size:
            return torch.zeros(entry.shape, dtype=DTYPES[entry.dtype])
        return torch.frombuffer(self.raw(name), dtype=DTYPES[entry.dtype]).reshape(entry.shape)


@dataclass(frozen=True)
class Part:
    """A tensor of a file that is to be written.

    Args:
        name: Its own.
        dtype: As safetensors calls it.
        shape: Its own.
        size: In bytes.
        made: Gives the bytes, when it is their turn.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    made: Callable[[], bytes | bytearray]


def write_tensors(path: Path, parts: Iterable[Part], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, each tensor as it is made.

    Wider types come first, as the library writes them, so that every tensor lies where its type may.

    Args:
        path: The file, which must not exist.
        parts: In any order; those of one width are made in theirs.
        metadata: Of the file.
    """
    ordered = sorted(parts, key=lambda part: -(part.size // max(math.prod(part.shape), 1)))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for part in ordered:
        header[part.name] = {"dtype": part.dtype, "shape": part.shape, "data_offsets": (end, end + part.size)}
        end += part.size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for part in ordered:
            data = part.made()
            if len(data) != part.size:
                raise RuntimeError(f"{part.name} has {len(data)} bytes, and {part.size} were said")
            file.write(data)


def to_bytes(tensor: Tensor) -> bytes:
    """A tensor's bytes, as the format has them.

    Args:
        tensor: On the CPU.
    """
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
