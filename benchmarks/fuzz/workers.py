"""Processes that run cases one after the other, and are killed when one takes too long or too much memory."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import psutil

from benchmarks.fuzz.cases import Case, Outcome, trace

_SPAWN = multiprocessing.get_context("spawn")
_LOOK_EVERY = 0.05  # seconds


@dataclass(frozen=True)
class Limits:
    """Of one case. mebibytes: more than the process had when the case began."""

    seconds: float = 60.0
    mebibytes: float = 1024.0


@dataclass
class _Worker:
    """One process. case: what it is at, None for nothing."""

    fuzzer: object
    base: Path
    stacks: Path  # where it writes what it is at, just before it would be killed
    seconds: float
    process: SpawnProcess = field(init=False)
    connection: Connection = field(init=False)
    case: Case | None = None
    begun: float = 0.0
    before: float = 0.0
    most: float = 0.0
    stopped: bool = False

    def __post_init__(self) -> None:
        self.connection, other = _SPAWN.Pipe()
        self.process = _SPAWN.Process(
            target=_serve, args=(self.fuzzer, self.base, other, self.stacks, 0.9 * self.seconds), daemon=True
        )
        self.process.start()
        other.close()
        self.connection.recv()  # it has imported what takes long

    def give(self, case: Case) -> None:
        self.case, self.begun, self.before = case, time.monotonic(), self.memory()
        self.most = self.before
        self.connection.send(case)

    def memory(self) -> float:
        """Mebibytes."""
        try:
            return float(psutil.Process(self.process.pid).memory_info().rss) / 2**20
        except psutil.Error:
            return 0.0

    def stop(self) -> None:
        if self.stopped:
            return
        self.stopped = True
        self.process.kill()
        self.process.join()
        self.connection.close()


def outcomes(
    fuzzer: object, base: Path, cases: Iterable[Case], jobs: int = 1, limits: Limits | None = None
) -> Iterator[tuple[Case, Outcome]]:
    """What each case comes to, in the order in which they end.

    Args:
        fuzzer: Of the cases' kind; it goes to other processes.
        base: Where `Fuzzer.prepare` has been.
        cases: To run.
        jobs: Processes at a time.
        limits: Of every case.
    """
    waiting, limits = iter(cases), limits or Limits()
    workers: list[_Worker] = []
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    numbers = count()

    def new() -> _Worker:
        return _Worker(fuzzer, base, folder / f"stack-{next(numbers)}", limits.seconds)

    try:
        while len(workers) < jobs and (case := next(waiting, None)) is not None:
            workers.append(new())
            workers[-1].give(case)
        while workers:
            wait([worker.connection for worker in workers], timeout=_LOOK_EVERY)
            for worker in list(workers):
                ended = _look(worker, limits)
                if ended is None or worker.case is None:
                    continue
                yield worker.case, ended
                case = next(waiting, None)
                if case is None:
                    worker.stop()
                    workers.remove(worker)
                    continue
                if worker.stopped:
                    place = workers.index(worker)
                    worker = workers[place] = new()
                worker.give(case)
    finally:
        for worker in workers:
            worker.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _look(worker: _Worker, limits: Limits) -> Outcome | None:
    """What a worker's case has come to; None while it is at it."""
    if worker.connection.poll():
        try:
            found: Outcome = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join()
            worker.stopped = True
            return Outcome("finding", f"the process died with {_said(worker.process.exitcode)}")
        return found
    worker.most = max(worker.most, worker.memory())
    over = worker.most - worker.before
    if over > limits.mebibytes:
        worker.stop()
        return Outcome("finding", "memory", f"more than {limits.mebibytes:.0f} MiB: {over:.0f}")
    if time.monotonic() - worker.begun > limits.seconds:
        worker.stop()
        stack = worker.stacks.read_text(encoding="utf-8").partition("most recent call first):")[2]
        frames = [line.strip() for line in stack.splitlines() if "autolora" in line][:4]
        return Outcome("finding", "hang", "\n".join([f"more than {limits.seconds:.0f} s", *frames]))
    return None


def _said(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _serve(fuzzer: object, base: Path, connection: Connection, stacks: Path, seconds: float) -> None:
    """A worker's life."""
    os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", COLUMNS="200")
    quiet = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(quiet, number)
    home = Path(tempfile.mkdtemp(prefix="fuzz-"))
    if (warm := getattr(fuzzer, "warm", None)) is not None:
        warm()
    connection.send("ready")
    while True:
        try:
            case = connection.recv()
        except EOFError:
            break
        with stacks.open("w", encoding="utf-8") as file:
            faulthandler.dump_traceback_later(seconds, file=file)
            outcome = attempt(fuzzer, case, base, home / "scratch")
            faulthandler.cancel_dump_traceback_later()
        connection.send(outcome)
    shutil.rmtree(home, ignore_errors=True)


def attempt(fuzzer: object, case: Case, base: Path, scratch: Path) -> Outcome:
    """Run a case in an empty folder; a finding once more, for its traceback."""
    found = _once(fuzzer, case, base, scratch, debug=False)
    if found.verdict != "finding":
        return found
    again = _once(fuzzer, case, base, scratch, debug=True)
    return again if again.verdict == "finding" else found


def _once(fuzzer: object, case: Case, base: Path, scratch: Path, *, debug: bool) -> Outcome:
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    before = Path.cwd()
    os.chdir(scratch)
    try:
        outcome: Outcome = fuzzer.run(case, base, scratch, debug=debug)  # type: ignore[attr-defined]
    except Exception as error:
        outcome = Outcome("finding", f"the check itself: {trace(error).partition(chr(10))[0]}", trace(error))
    finally:
        os.chdir(before)
    return outcome
