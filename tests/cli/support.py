"""Running the installed command as a person does, and looking at what it wrote."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.laboratory import change_state

Call = Callable[..., tuple[int, str, str]]
"""``call("eval", run)``: the command inside the test's process; exit code, standard output and standard error."""

ENTRY_POINT = Path(sys.executable).with_name("autolora")


def environment(**more: str) -> dict[str, str]:
    """The caller's, without a network, and with one thread: the models here are too small to share out."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200", **more}


def autolora(*arguments: str | Path, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command to its end; `more` is added to its environment."""
    command = [str(ENTRY_POINT), *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=300, check=False
    )


def served(*arguments: str | Path, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """As `autolora`, in a process that a comparison's fork server begins: torch is imported there.

    For whatever does not ask what is imported, how Python is started, or what libraries read from the environment when
    they are imported.
    """
    from autolora.comparison.processes import process_context, start

    command, environ = [*map(str, arguments)], environment(**more)
    with tempfile.TemporaryDirectory() as folder:
        texts = [Path(folder) / name for name in ("out", "err")]
        process = process_context().Process(target=_serve, args=(command, str(cwd), environ, *map(str, texts)))
        start(process)
        process.join(300)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, 300)
        out, err = (text.read_text(encoding="utf-8") for text in texts)
    return subprocess.CompletedProcess(command, process.exitcode, out, err)


def _serve(command: list[str], folder: str, environ: dict[str, str], out: str, err: str) -> None:
    """The process of `served`."""
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    sys.path[:0] = [place for place in environ.get("PYTHONPATH", "").split(os.pathsep) if place not in sys.path]
    for number, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    from autolora import registry
    from autolora.cli import main

    for found in (registry._outside, registry._entry_points):
        found.cache_clear()  # of this path, too
    main(command)


def succeed(
    *arguments: str | Path, cwd: Path, by: Callable[..., subprocess.CompletedProcess[str]] = autolora
) -> subprocess.CompletedProcess[str]:
    """As `autolora` or `served`, where anything but success is a failure of the test."""
    done = by(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done


def succeed_here(*arguments: str | Path, cwd: Path) -> None:
    """As `succeed`, inside this process and from its fork server: for fixtures of many tests, as `call` is for one."""
    from autolora.cli import main

    terminate, code = signal.getsignal(signal.SIGTERM), object()
    try:
        with contextlib.chdir(cwd):
            main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = end.code
    finally:
        signal.signal(signal.SIGTERM, terminate)
    assert code == 0


def start(*arguments: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """Start the installed command and let it run.

    Ctrl-C reaches it even where the tests themselves run in the background of a shell, which hands on SIGINT as
    ignored.
    """
    command = [str(ENTRY_POINT), *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def freeze_when(process: subprocess.Popen[str], ready: Callable[[], bool], seconds: float = 120) -> None:
    """Stop the process (SIGSTOP) as soon as `ready()`; it must still be alive then."""
    end = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, f"it ended before it could be interrupted: {process.communicate()}"
        assert time.monotonic() < end, "it never came to where it was to be interrupted"
        time.sleep(0.002)
    process.send_signal(signal.SIGSTOP)


def finish(process: subprocess.Popen[str], *signals: signal.Signals) -> tuple[int, str]:
    """Send the signals, wait for the end; exit code and standard error."""
    for number in signals:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def settings(**values: object) -> list[str]:
    """``search__steps=3`` as the options --set search.steps=3."""
    return [part for name, value in values.items() for part in ("--set", f"{name.replace('__', '.')}={value}")]


def only_run(output: Path, recipe: str = "tiny") -> Path:
    """The one run of a recipe below an output folder."""
    (run,) = (output / recipe).iterdir()
    return run


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def stage_states(run: Path) -> Mapping[str, str]:
    return {name: stage["state"] for name, stage in read(run / "status.json")["stages"].items()}


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run that must not depend on when or how often interrupted it was made."""
    timed = {"status.json", "manifest.json"}
    files = {path.relative_to(run).as_posix(): path for path in sorted(run.rglob("*")) if path.is_file()}
    found = {name: path.read_bytes() for name, path in files.items() if name not in timed}
    return {name: unmeasured(data) if name.endswith("README.md") else data for name, data in found.items()}


def unmeasured(card: bytes) -> bytes:
    """A model card without what a run has cost, and the hash that is of that, too."""
    return re.sub(rb"\n## Cost\n.*?(?=\n## )|sha256 [0-9a-f]{64}", b"", card, flags=re.DOTALL)


def unfinish(run: Path, stage: str) -> None:
    """Make it look as if the run had been killed just before the end of a stage."""
    status = read(run / "status.json")
    order = ["search", "retrain", "eval"]
    for later in order[order.index(stage) :]:
        status["stages"].pop(later)
    change_state(run / "status.json", stages=status["stages"])
    if stage == "search":
        (run / "search" / "ranks.json").unlink()
    shutil.rmtree(run / "adapter")


def imported(err: str) -> set[str]:
    """Top-level packages that a command imported; from its standard error with PYTHONPROFILEIMPORTTIME=1."""
    names = [line.rpartition("|")[2].strip() for line in err.splitlines() if line.startswith("import time:")]
    assert names, "the command said nothing about its imports"
    return {name.partition(".")[0] for name in names}


def said(err: str) -> str:
    """Standard error without what PYTHONPROFILEIMPORTTIME=1 adds."""
    return "".join(line for line in err.splitlines(keepends=True) if not line.startswith("import time:"))
