"""The processes of a comparison on one machine: how they begin and end, and which GPU each has."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

import psutil  # which accelerate brings
import torch
from typing_extensions import override

from autolora.comparison.devices import Slots, share_of_cores, visible
from autolora.comparison.executor import LONGEST_END, Ending, Executor, Job, Resources, Task
from autolora.comparison.worker import BUSY, work
from autolora.errors import RunError, UserError
from autolora.runs.lock import LOOK_EVERY
from autolora.training.compute import Precision, default_device, precision

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

SAFE_PATH = "PYTHONSAFEPATH"
PRELOADED = ["autolora.comparison.worker", "sklearn.metrics"]  # the latter scores labels: .7 s of every trial
LOST = 255  # what multiprocessing says of a process whose fork server is gone: its true end is not known
GIB = 2**30
ONE = Resources(jobs=1)
SERVER_LOST = (
    "the server that begins the trials' processes has ended (killed, or short of memory?): another one is begun, and "
    "the trials that ended with it are gone on with from their last checkpoints"
)


class Processes(Executor):
    """Trials in processes of this machine, each with a GPU of its own where there are several.

    Args:
        resources: What they may take.

    Raises:
        UserError: GPUs are asked for, and there are none.
    """

    def __init__(self, resources: Resources = ONE) -> None:
        self._device = default_device()
        devices = visible(os.environ, torch.cuda.device_count) if self._device.type == "cuda" else []
        if resources.gpus is not None and not devices:
            raise UserError("--gpus-per-cell: no GPU is seen here by torch (autolora doctor says why); leave it out")
        self._slots = Slots(devices, resources.jobs or 1, resources.gpus)
        self._threads = resources.cpus or share_of_cores(self.size)
        self._context = process_context()

    @property
    @override
    def size(self) -> int:
        return self._slots.size

    @property
    @override
    def threads(self) -> int | None:
        return self._threads

    @override
    def precision(self) -> Precision:
        return precision("auto", self._device)

    @override
    def start(self, task: Task) -> Job:
        device = self._slots.take()
        path, recipe = str(task.run.path), task.trial.recipe
        given = (path, recipe, task.precision, self._threads, task.show, task.tracking, device, task.told)
        for last in (False, True):
            process = self._context.Process(target=work, args=given, daemon=False)
            try:
                start(process)
                break
            except (OSError, EOFError) as error:  # the server ended just now: the next start begins another
                if last:
                    raise RunError(
                        f"{task.trial.name}: no process can be begun for it: {error or type(error).__name__}; make "
                        "room (memory, processes, open files), and give the same command again"
                    ) from error
        served = self._context.get_start_method() == "forkserver"
        return _Process(task, process, served, partial(self._slots.free, device))

    @override
    def wait(self, jobs: list[Job], longest: float) -> None:
        mine = [job for job in jobs if isinstance(job, _Process)]
        for job in mine:
            job.look()
        sentinels = [job.process.sentinel for job in mine if not job.lost]
        if sentinels:
            wait(sentinels, longest if len(sentinels) == len(mine) else LOOK_EVERY)
        else:
            time.sleep(min(longest, LOOK_EVERY))


class _Process(Job):
    """A trial's process, of `process_context`.

    Args:
        task: The trial.
        process: Begun.
        served: Whether a fork server began it.
        free: Called once it has ended.
    """

    def __init__(self, task: Task, process: BaseProcess, served: bool, free: Callable[[], None]) -> None:
        super().__init__(task)
        self.process, self.served, self.free = process, served, free
        self.lost = False  # whether the server of the process is gone, so that only the run's lock says if it runs
        self.peak = 0  # the most memory that it was seen to have, in bytes

    def look(self) -> None:
        """See how much memory the process has now."""
        with suppress(psutil.Error, OSError, ValueError):
            if self.process.pid is not None:
                self.peak = max(self.peak, psutil.Process(self.process.pid).memory_info().rss)

    @override
    def ending(self) -> Ending | None:
        if not self._ended():
            return None
        self.free()
        code = self.process.exitcode
        reason = "the server of its process ended again, and its process with it"
        return Ending(
            clean=code == 0,
            busy=code == BUSY,
            lost=SERVER_LOST if self.lost else "",
            reason=reason if self.lost else f"its process ended with {how_it_ended(code, self.peak)}",
        )

    @override
    def cancel(self) -> None:
        if not self._ended():
            if self.lost and self.process.pid is not None:
                if (holder := self.run.live_process()) is not None and holder.pid == self.process.pid:
                    os.kill(self.process.pid, signal.SIGTERM)  # there are fork servers on POSIX systems only
            else:
                self.process.terminate()

    @override
    def join(self) -> None:
        if not self.lost:
            self.process.join()
        end = time.monotonic() + LONGEST_END
        while not self._ended() and time.monotonic() < end:
            time.sleep(LOOK_EVERY)

    def _ended(self) -> bool:
        if not self.lost:
            if self.process.is_alive():
                return False
            self.process.join()
            self.lost = self.served and self.process.exitcode == LOST
        return not self.lost or self.run.live_process() is None


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
