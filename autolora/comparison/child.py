"""In a process that a comparison has begun."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import wait

from autolora.errors import FAILED


def end_with_parent() -> None:
    """In a child process: end when the parent has ended, however that did."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(FAILED)

    threading.Thread(target=watch, daemon=True).start()
