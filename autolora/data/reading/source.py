"""A data file as lines of text: decompressed, decoded, with the place of what cannot be.

    for number, line in Source(Path("train.jsonl.gz")).lines(): ...

Lines end at a line feed, or a carriage return and a line feed, and at nothing else. They are counted from 1.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO

from autolora.errors import UserError

ENCODING_ADVICE = "save the file as UTF-8, or name its encoding in data.encoding (latin-1, cp1252, utf-16, …)"
BYTE_ORDER_MARK = "\ufeff"


def _zstandard(path: Path) -> IO[bytes]:
    import pyarrow  # the standard library of Python 3.11 has no Zstandard

    return io.BufferedReader(_Raw(pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")))


class _Raw(io.RawIOBase):
    """Arrow's stream as one that Python's buffers read from."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        read: bytes = self.stream.read(len(buffer))
        buffer[: len(read)] = read
        return len(read)

    def close(self) -> None:
        self.stream.close()
        super().close()


COMPRESSED: Mapping[str, Callable[[Path], Any]] = {
    ".gz": partial(gzip.open, mode="rb"),
    ".bz2": partial(bz2.open, mode="rb"),
    ".xz": partial(lzma.open, mode="rb"),
    ".zst": _zstandard,
}


@dataclass(frozen=True)
class Source:
    """A file and how its bytes become text.

    Args:
        path: Where it is.
        encoding: A codec's name.
        advice: What to do about bytes that are no text of this encoding.
    """

    path: Path
    encoding: str = "utf-8"
    advice: str = ENCODING_ADVICE

    @property
    def suffix(self) -> str:
        """The suffix that says the format: that in front of a compression's."""
        suffixes = self.path.suffixes
        inner = suffixes[-1:] if suffixes and suffixes[-1] not in COMPRESSED else suffixes[-2:-1]
        return inner[0] if inner else ""

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The file's bytes, decompressed.

        Raises:
            UserError: They cannot be read.
        """
        try:
            with COMPRESSED.get(self.path.suffix, partial(Path.open, mode="rb"))(self.path) as file:
                yield file
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise UserError(f"{self.path}: the file cannot be read: {' '.join(str(error).split())}") from error

    def raw_lines(self) -> Iterator[str]:
        """The lines with their ends.

        Raises:
            UserError: A line is no text of the encoding; the message names it.
        """
        done = 0
        with self.opened() as binary:
            try:
                for line in io.TextIOWrapper(binary, encoding=self.encoding, newline="\n"):
                    yield line if done else line.removeprefix(BYTE_ORDER_MARK)
                    done += 1
            except UnicodeDecodeError as error:  # in a piece of the file that begins within the line after `done`
                raise self._no_text(done + 1 + _line_feeds(error), error.reason) from None
            except UnicodeError as error:  # what some codecs raise, which do not say where
                reason = "it begins with no byte-order mark, which utf-16-le, utf-32-be and the like do without"
                raise self._no_text(done + 1, reason if "BOM" in str(error) else str(error)) from None

    def lines(self) -> Iterator[tuple[int, str]]:
        """The number and the text of each line, without its end."""
        for number, line in enumerate(self.raw_lines(), 1):
            yield number, line.removesuffix("\n").removesuffix("\r")

    def at(self, line: int) -> str:
        """The place of a line, for messages."""
        return f"{self.path}:{line}"

    def _no_text(self, line: int, reason: str) -> UserError:
        return UserError(f"{self.at(line)}: the line is not {self.encoding.upper()} text ({reason}); {self.advice}")


def _line_feeds(error: UnicodeDecodeError) -> int:
    """How many stand before what cannot be decoded, in the piece that was tried."""
    before = bytes(error.object[: error.start])
    try:
        return before.decode(error.encoding, errors="replace").count("\n")
    except LookupError:  # unicode_escape's errors name a codec that there is not
        return before.count(b"\n")
