"""How the processes of a comparison begin and end."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from autolora.errors import FAILED

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext
    from multiprocessing.process import BaseProcess

SAFE_PATH = "PYTHONSAFEPATH"
PRELOADED = ["autolora.comparison.worker"]


def process_context() -> SpawnContext | ForkServerContext:
    """Processes that begin with everything imported, where the system can; else fresh ones."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def start(process: BaseProcess) -> None:
    """Start a process. The interpreters that are begun for it import nothing from the current folder.

    Python would look there first, for the modules of its own library, too; what the parent's path has, theirs gets.

    Args:
        process: Of `process_context`.
    """
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        process.start()
    finally:
        if before is None:
            del os.environ[SAFE_PATH]
        else:
            os.environ[SAFE_PATH] = before


def end_with_parent() -> None:
    """In a child process: end when the parent has ended, however that did."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(FAILED)

    threading.Thread(target=watch, daemon=True).start()
