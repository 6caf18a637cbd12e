"""The JSON Lines log of a stage: one record every few steps, cut back to the checkpoint when a run is resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autolora.errors import UserError
from autolora.files import sync


class MetricLog:
    """Appends records to a file; `mark` and `cut` let a checkpoint say what of it was there.

    Args:
        path: The file; its folder is made.
        on_add: Told of every record that was added.
    """

    def __init__(self, path: Path, on_add: Callable[[Mapping[str, object]], None] = lambda record: None) -> None:
        self.path, self.on_add = path, on_add
        path.parent.mkdir(parents=True, exist_ok=True)
        self._hash, self._hashed = hashlib.sha256(), 0  # of what is known, and how many bytes that is

    def add(self, record: Mapping[str, object]) -> None:
        """Append one line.

        Args:
            record: JSON-able.

        Raises:
            ValueError: It holds NaN or an infinity, which JSON has not.
        """
        line = json.dumps(record, allow_nan=False) + "\n"
        with self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(line)
        self.on_add(record)

    def mark(self) -> dict[str, object]:
        """What a checkpoint says of the log, which has reached the disk: "log_bytes" and their "log_sha256"."""
        if self.path.exists():
            sync(self.path)
            with self.path.open("rb") as file:
                file.seek(self._hashed)
                self._take(file.read())
        return {"log_bytes": self._hashed, "log_sha256": self._hash.hexdigest()}

    def clear(self) -> None:
        """Forget all."""
        self.path.write_bytes(b"")
        self._hash, self._hashed = hashlib.sha256(), 0

    def cut(self, marked: Mapping[str, Any], checkpoint: Path) -> None:
        """Forget what a run wrote after its last checkpoint.

        Args:
            marked: What the checkpoint says, from `mark`.
            checkpoint: Its file, for messages.

        Raises:
            UserError: What was there then is not there now, or another.
        """
        size, there = int(marked["log_bytes"]), self.path.read_bytes() if self.path.exists() else b""
        self._hash, self._hashed = hashlib.sha256(), 0
        self._take(there[:size])
        said, wrong = marked.get("log_sha256"), ""  # earlier versions say the size alone
        if len(there) < size:
            wrong = f"it has {len(there)} bytes, and had {size}"
        elif said not in (None, found := self._hash.hexdigest()):
            wrong = f"the SHA-256 of its first {size} bytes is {found[:12]}, and was {str(said)[:12]}"
        if wrong:
            raise UserError(
                f"{self.path} is not what was written: {wrong} when its checkpoint was written; put it back, or remove "
                f"{checkpoint} to start the stage anew"
            )
        with self.path.open("ab") as file:
            file.truncate(size)

    def _take(self, data: bytes) -> None:
        self._hash.update(data)
        self._hashed += len(data)

    def records(self) -> list[dict[str, Any]]:
        """All records so far, in order, without half a line at the end: of a run that was killed, or is writing it."""
        return [json.loads(line) for line in whole_lines(self.path.read_text(encoding="utf-8")) if line]


def whole_lines(text: str) -> list[str]:
    """The lines of a text that end.

    Args:
        text: Each ends with a line break; half a line at the end does not.
    """
    return text.split("\n")[:-1]
