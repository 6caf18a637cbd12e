"""Rows of a stream in chunks of what has arrived: ``for chunk in arriving(records, 1024): …``.

Whoever feeds a pipe a row at a time, and waits for what comes of it, is not made to wait for a full chunk.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


def arriving(rows: Iterator[T], size: int) -> Iterator[list[T]]:
    """As many rows at a time as are there, at least one and at most `size`.

    Args:
        rows: Read by a thread of their own, no more than one chunk ahead.
        size: Rows of a chunk.

    Raises:
        Exception: What reading raised, once the rows before it were given.
    """
    there: queue.Queue[T | BaseException | None] = queue.Queue(size)

    def read() -> None:
        try:
            for row in rows:
                there.put(row)
            there.put(None)
        except BaseException as error:  # it is raised where the rows are taken
            there.put(error)

    threading.Thread(target=read, daemon=True, name="rows").start()
    while True:
        chunk: list[T] = []
        found = there.get()
        while found is not None and not isinstance(found, BaseException):
            chunk.append(found)
            if len(chunk) == size:
                break
            try:
                found = there.get_nowait()
            except queue.Empty:
                break
        if chunk:
            yield chunk
        if isinstance(found, BaseException):
            raise found
        if found is None:
            return
