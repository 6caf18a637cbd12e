"""The JSON Lines log of a stage: one record every few steps, cut back to the checkpoint when a run is resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class MetricLog:
    """Appends records to a file; `size` and `cut` let a checkpoint say how much of it was there.

    Args:
        path: The file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, record: Mapping[str, object]) -> None:
        """Append one line.

        Args:
            record: JSON-able.

        Raises:
            ValueError: It holds NaN or an infinity, which JSON has not.
        """
        line = json.dumps(record, allow_nan=False) + "\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)

    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, size: int) -> None:
        """Forget what a run wrote after its last checkpoint.

        Args:
            size: Bytes that stay.
        """
        with self.path.open("ab") as file:
            file.truncate(size)

    def records(self) -> list[dict[str, Any]]:
        """All records so far, in order."""
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines() if line]
