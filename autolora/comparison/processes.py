"""How the processes of a comparison begin and end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

import psutil  # which accelerate brings

from autolora.comparison.plan import Trial
from autolora.errors import FAILED
from autolora.runs.lock import LOOK_EVERY
from autolora.runs.store import Run

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

SAFE_PATH = "PYTHONSAFEPATH"
PRELOADED = ["autolora.comparison.worker"]
LOST = 255  # what multiprocessing says of a process whose fork server is gone: its true end is not known
GIB = 2**30
LONGEST_END = 60.0  # seconds that a process may take to end when told to


@dataclass(eq=False)
class Job:
    """A trial whose process is running.

    Args:
        trial: Of a comparison.
        run: Its run.
        process: Of `process_context`, begun.
        begun: When, by the monotonic clock.
        served: Whether a fork server began it.
        lost: Whether the server of its process is gone, so that only the run's lock says whether it still runs.
        peak: The most memory that the process was seen to have, in bytes; 0 where it was never looked at.
    """

    trial: Trial
    run: Run
    process: BaseProcess
    begun: float
    served: bool
    lost: bool = False
    peak: int = 0

    def look(self) -> None:
        """See how much memory the process has now."""
        with suppress(psutil.Error, OSError, ValueError):
            if self.process.pid is not None:
                self.peak = max(self.peak, psutil.Process(self.process.pid).memory_info().rss)

    def ended(self) -> bool:
        """Whether the process has ended."""
        if not self.lost:
            if self.process.is_alive():
                return False
            self.process.join()
            self.lost = self.served and self.process.exitcode == LOST
        return not self.lost or self.run.live_process() is None

    def terminate(self) -> None:
        """Tell the process to end."""
        if not self.ended():
            if self.lost and self.process.pid is not None:
                if (holder := self.run.live_process()) is not None and holder.pid == self.process.pid:
                    os.kill(self.process.pid, signal.SIGTERM)  # there are fork servers on POSIX systems only
            else:
                self.process.terminate()

    def join(self) -> None:
        """Wait for the end of the process."""
        if not self.lost:
            self.process.join()
        end = time.monotonic() + LONGEST_END
        while not self.ended() and time.monotonic() < end:
            time.sleep(LOOK_EVERY)


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


def how_it_ended(code: int | None, peak: int = 0) -> str:
    """An exit code in words.

    Args:
        code: As multiprocessing has it: the negative number of a signal, where one ended the process.
        peak: The most memory that the process was seen to have, in bytes; 0 where that is not known.
    """
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # a system has signals without a name
        name = str(-code)
    return f"signal {name}{_of_memory(peak) if name == 'SIGKILL' else ''}"


def _of_memory(peak: int) -> str:
    """What SIGKILL says, which no process can say of itself any more."""
    machine = psutil.virtual_memory()
    seen = f"; it was last seen with {peak / GIB:.2f} GiB at most, of {machine.total / GIB:.2f}" if peak else ""
    return (
        f", which is how a machine that is out of memory ends a process{seen}; run fewer trials at a time (--jobs), or "
        "lower batch_size or raise gradient_accumulation of its stages (autolora memory says what that comes to)"
    )
