"""Predictions in the making: JSON Lines that only grow, so that decoding goes on where it was interrupted.

    part = Part(path, identity)
    done = list(part.records())   # of an earlier process
    part.add(records)             # one batch, as one line

In front of every line is a CRC-32 of it and of all lines before it. The first line is the identity of what the
predictions were made with and for; a file with another identity is made anew.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autolora.errors import UserError

_FIRST_FORMAT = re.compile(rb"[0-9a-f]{64}")  # the first line of what earlier versions wrote, without a CRC


class Part:
    """The predictions made so far.

    Args:
        path: The file, one for each process.
        identity: One line.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.path, self.identity = path, identity
        self._crc = 0  # of all lines so far

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """What is there: index of the example, and its record. A batch whose writing was cut off is left out.

        Raises:
            UserError: The file is not what was written.
        """
        data = self.path.read_bytes() if self.path.exists() else b""
        whole, _, _ = data.rpartition(b"\n")  # what follows is half a line, or nothing
        first, *lines = whole.split(b"\n")
        self._crc = 0
        if not whole or _FIRST_FORMAT.fullmatch(first) or self._checked(first, 1) != self.identity.encode():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._crc = 0
            self.path.write_bytes(self._line(self.identity))
            return
        found = [self._checked(line, number) for number, line in enumerate(lines, start=2)]
        if len(whole) + 1 < len(data):
            self.path.write_bytes(whole + b"\n")
        for line in found:
            yield from json.loads(line)

    def add(self, records: Sequence[tuple[int, Mapping[str, object]]]) -> None:
        """Add one batch, as one line.

        Args:
            records: Index of each example, and its record.

        Raises:
            ValueError: There is NaN or an infinity in a record, which JSON has not.
        """
        line = self._line(json.dumps(records, allow_nan=False))
        with self.path.open("ab") as file:
            file.write(line)

    def remove(self) -> None:
        """Remove the file, once all predictions are where they belong."""
        self.path.unlink(missing_ok=True)

    def _line(self, text: str) -> bytes:
        self._crc = zlib.crc32(text.encode(), self._crc)
        return f"{self._crc:08x} {text}\n".encode()

    def _checked(self, line: bytes, number: int) -> bytes:
        """A line without its CRC."""
        said, _, text = line.partition(b" ")
        self._crc = zlib.crc32(text, self._crc)
        if said != f"{self._crc:08x}".encode():
            raise UserError(
                f"{self.path}, line {number}, is not what was written: its checksum is {self._crc:08x}, and should be "
                f"{said.decode(errors='replace')[:8]}; remove the file to predict these examples anew"
            )
        return text
