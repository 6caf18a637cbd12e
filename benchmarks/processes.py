"""The command in processes of their own, which can be stopped in the middle: for `benchmarks.fuzz` and `.torture`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

WITHOUT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def start(*arguments: str | Path, cwd: Path, log: Path) -> subprocess.Popen[bytes]:
    """``autolora …``, in a group of its own, with Ctrl-C as a terminal has it; what it says goes to `log`."""
    with log.open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "autolora", *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **WITHOUT},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def wait_for(process: subprocess.Popen[bytes], ready: Callable[[], bool], seconds: float = 300.0) -> bool:
    """Whether `ready()` came true before the process ended.

    Raises:
        TimeoutError: Neither did.
    """
    end = time.monotonic() + seconds
    while process.poll() is None:
        if ready():
            return True
        if time.monotonic() > end:
            process.kill()
            raise TimeoutError(f"{process.args!r} took more than {seconds:.0f} s")
        time.sleep(0.003)
    return False


def stop(process: subprocess.Popen[bytes], how: signal.Signals, seconds: float = 60.0) -> int:
    """Send a signal and give the exit code; a process that goes on is killed, which is a failure of its own."""
    if process.poll() is None:
        process.send_signal(how)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise TimeoutError(f"{process.args!r} went on for {seconds:.0f} s after {how.name}") from None
