"""The machine: devices and their precision, memory, disk, locks, Java, git, the terminal."""

from __future__ import annotations

import locale
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from autolora.doctor.finding import Finding
from autolora.programs import program

GIB = 2**30
LITTLE = 5 * GIB  # of free disk: a small model and its runs
SECONDS = 5  # that a program may take to say its version


def devices() -> Iterator[Finding]:
    """What passes run on, how many threads, and in which precision `dtype: auto` computes."""
    import torch

    from autolora.runs.manifest import processor
    from autolora.training.compute import default_device, precision

    device = default_device()
    chosen = precision("auto", device)
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            of = torch.cuda.get_device_properties(i)
            yield Finding(f"cuda:{i}", "ok", f"{of.name}, {of.total_memory / GIB:.1f} GiB, CUDA {torch.version.cuda}")
    elif device.type != "cpu":
        yield Finding("device", "ok", str(device))
    else:
        yield Finding("device", "ok", f"CPU only: {processor()}, {os.cpu_count()} cores")
    yield Finding("threads", "ok", f"{torch.get_num_threads()} of torch's{_of('OMP_NUM_THREADS')}")
    why = "it has units for it" if chosen == "bfloat16" else "it has no units for bfloat16, which would be emulated"
    yield Finding("precision", "ok", f"model.dtype: auto is {chosen} on {device.type}: {why}")


def memory() -> Iterator[Finding]:
    """Of the machine, and what is free of it now."""
    import psutil

    found = psutil.virtual_memory()
    yield Finding("memory", "ok", f"{found.total / GIB:.1f} GiB, {found.available / GIB:.1f} of them free")


def disk(runs: Path) -> Iterator[Finding]:
    """The runs folder: free disk, whether it can be written to, and whether locks hold there.

    Args:
        runs: The folder, which need not be there.
    """
    there = next(path for path in (runs.absolute(), *runs.absolute().parents) if path.is_dir())
    yield _free("runs", runs, there)
    yield from _locks(runs, there)


def cache() -> Iterator[Finding]:
    """Where models and data of the hub are kept."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    yield _free("hub cache", folder, there)


def converted() -> Iterator[Finding]:
    """Where GGUF models are kept as they were converted, how much that is, and whether it is trusted."""
    from autolora.model.cache import LIMIT, fault, total
    from autolora.model.converted import cache_root

    try:
        folder = cache_root()
    except OSError as error:
        yield Finding(
            "gguf cache", "note", f"nowhere, GGUF models are read anew by every process: {error}", "set HF_HOME"
        )
        return
    if not folder.exists():
        yield Finding("gguf cache", "ok", f"{folder} (not there yet)")
    elif why := fault(folder):
        yield Finding("gguf cache", "note", f"not used, GGUF models are read anew by every process: {why}")
    else:
        held = f"{total(folder) / GIB:.1f} GiB of at most {LIMIT / GIB:.0f}"
        yield Finding("gguf cache", "ok", f"{folder}, {held}; remove the folder to empty it")


def java() -> Iterator[Finding]:
    """METEOR, and the tokenizer of ROUGE-L and CIDEr, are Java programs."""
    wants = "METEOR, ROUGE-L and CIDEr"
    yield _program("java", ["-version"], wants, "install a Java runtime (8 or later) and put it on PATH")


def git() -> Iterator[Finding]:
    """Manifests say from which commit autolora was run, where it is run from its source tree."""
    yield _program("git", ["--version"], "the commit in the manifests of runs from a source tree", "install git")


def terminal() -> Iterator[Finding]:
    """Width, encoding, colours."""
    encoding = sys.stdout.encoding or "unknown"
    width = shutil.get_terminal_size().columns
    kind = "a terminal" if sys.stdout.isatty() else "no terminal"
    text = f"standard output is {kind}, {width} columns, {encoding}; files are {locale.getpreferredencoding(False)}"
    try:
        "─│█…α".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        yield Finding("terminal", "note", f"{text}: tables show escapes", "set PYTHONIOENCODING=utf-8, or LANG=C.UTF-8")
        return
    yield Finding("terminal", "ok", text)


def _locks(runs: Path, there: Path) -> Iterator[Finding]:
    from autolora.runs.lock import HeldError, Lock

    try:
        folder = tempfile.mkdtemp(prefix=".autolora-doctor-", dir=there)
    except OSError as error:
        reason = error.strerror or str(error)
        yield Finding("runs folder", "wrong", f"{there} cannot be written to: {reason}", "name another with --output")
        return
    try:
        mine, other = Lock(Path(folder, "lock")), Lock(Path(folder, "lock"))
        mine.acquire()
        try:
            other.acquire()
        except HeldError:
            yield Finding("locks", "ok", f"one process at a run at a time: locks hold in {runs}")
        else:
            other.release()
            yield Finding("locks", "wrong", f"locks do not hold in {there}: two processes could work on one run")
        mine.release()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free(what: str, folder: Path, there: Path) -> Finding:
    free = shutil.disk_usage(there).free
    text = f"{folder}{'' if folder.is_dir() else ' (not there yet)'}, {free / GIB:.1f} GiB of disk free"
    if free < LITTLE:
        return Finding(what, "note", text, "models and runs may need more")
    return Finding(what, "ok", text)


def _program(name: str, options: list[str], wanted: str, remedy: str) -> Finding:
    path = program(name)
    if path is None:
        return Finding(name, "note", f"not on PATH; needed for {wanted}", remedy)
    try:
        done = subprocess.run(
            [path, *options], capture_output=True, encoding="utf-8", errors="replace", timeout=SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(name, "note", f"{path} cannot be run ({type(error).__name__}); needed for {wanted}", remedy)
    said = next(iter((done.stdout + done.stderr).splitlines()), "").strip()
    if done.returncode != 0:
        return Finding(name, "note", f"{path} fails: {said}; needed for {wanted}", remedy)
    return Finding(name, "ok", f"{said} ({path}), for {wanted}")


def _of(variable: str) -> str:
    value = os.environ.get(variable)
    return f", {variable}={value}" if value else ""
