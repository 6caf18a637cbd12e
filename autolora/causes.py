"""Whose fault an exception is: what the user can mend, what came of the run, and, where it is neither, ours.

    with plainly("search"):      # raises UserError or RunError for what it knows, everything else as it is
        …

The one place where errors of the system and of other libraries become messages: at the end of a command, of a stage, of
a trial's process, and of the functions for Python.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autolora.errors import RunError, UserError

# By the system's number for it; each message begins with the path.
MENDABLE = {
    errno.ENOENT: "it is not there; check the path",
    errno.ENOTDIR: "a part of the path is a file, not a folder; name another path, or move that file away",
    errno.EISDIR: "it is a folder, and a file is needed; name another path, or move the folder away",
    errno.EEXIST: "it is there already; name another path, or move it away",
    errno.ENOTEMPTY: "the folder is not empty; name another path, or move it away",
    errno.EACCES: "permission denied; make it readable (writable, where it is written), or name another path",
    errno.EPERM: "the system does not permit it; change its permissions, or name another path",
    errno.EROFS: "the file system is read-only; name another folder, with --output for instance",
    errno.ENOSPC: "the disk is full; make room and give the same command again, or name a folder on another disk",
    errno.EDQUOT: "the disk quota is used up; make room and give the same command again, or name another disk's folder",
    errno.EFBIG: "the file would be larger than the system allows; raise the limit (ulimit -f), or name another disk",
    errno.ENAMETOOLONG: "the name is longer than the file system takes; choose a shorter one",
    errno.ELOOP: "its symbolic links go round in a circle; remove them",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine; end other programs",
    errno.EIO: "the disk could not be read or written; check it, and take a copy of the file",
    errno.EBUSY: "another program is using it; end that, or name another path",
    errno.ESTALE: "the network's file system has lost it; mount it again",
    errno.EXDEV: "it is on another disk than its place; name a folder on one disk",
}
# These need no path to be understood: they are about what was being written or opened.
PATHLESS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO}
MEMORY = (  # parts of the messages of torch, CUDA and MPS
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "alloc_failed",
)
ONEDNN = (  # whole messages of oneDNN on a CPU without room
    "could not create a primitive",
    "could not create a memory object",
)
LOWER = {  # what takes less memory, by stage
    "search": "search.batch_size, or raise search.gradient_accumulation (the same results in smaller pieces)",
    "retrain": "retrain.batch_size, or raise retrain.gradient_accumulation (the same results in smaller pieces)",
    "eval": "eval.batch_size, or eval.generation.max_new_tokens where text is generated",
    "": "batch_size, or raise gradient_accumulation, of the stage (the same results in smaller pieces)",
}
_SYSTEM = re.compile(r"\(os error (\d+)\)")  # how Rust libraries (safetensors, tokenizers) say the system's number


def explained(error: BaseException, stage: str = "") -> UserError | RunError | None:
    """An exception as the user is to be told of it; None where it is a fault of ours.

    Args:
        error: Of any kind.
        stage: Of the run, where it arose in one: it says which settings take less memory.
    """
    if isinstance(error, UserError | RunError):
        return error
    if is_memory(error):
        return RunError(
            f"{short_of_memory(error)}; lower {LOWER.get(stage, LOWER[''])}, lower data.max_length, "
            "take model.dtype: bfloat16 or a smaller model, or end other programs; --resume goes on from the last "
            "checkpoint"
        )
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, UnicodeEncodeError):
        return _unwritable(error)
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return UserError("a path has a NUL character in it, which no file system takes; write it without")
    if type(error).__name__ == "SafetensorError":
        return _of_tensors(error)
    return None


def is_memory(error: BaseException) -> bool:
    """Whether an exception says that there was not enough memory, on the host or on the device.

    Args:
        error: Of any kind.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (text.strip() in ONEDNN or any(part in text for part in MEMORY))


@contextmanager
def loaded(load: Mapping[str, object]) -> Iterator[None]:
    """Note on an exception that says that memory was short what was being computed; what is noted already stays.

    Args:
        load: "step" and "steps", "examples" and "tokens" of a micro-batch, or what was being "done"; it is read when
            the exception comes.
    """
    try:
        yield
    except Exception as error:
        if is_memory(error):
            error.__dict__["load"] = {**load, **load_of(error)}
        raise


def load_of(error: BaseException) -> dict[str, Any]:
    """What was noted by `loaded`.

    Args:
        error: Of any kind.
    """
    return dict(error.__dict__.get("load", {}))


def short_of_memory(error: BaseException) -> str:
    """That memory was short, at which step and with what batch, as far as it was noted.

    Args:
        error: That says so.
    """
    load, where = load_of(error), []
    if "step" in load:
        where.append(f"at step {load['step']} of {load['steps']}")
    if "done" in load:
        where.append(f"while {load['done']}")
    if "examples" in load:
        plural = "" if load["examples"] == 1 else "s"
        where.append(f"with {load['examples']} example{plural} of {load['tokens']} tokens in a pass")
    return f"memory was short{' ' if where else ''}{', '.join(where)} ({_first_line(error)})"


@contextmanager
def plainly(stage: str = "") -> Iterator[None]:
    """Raise what `explained` makes of an exception; others, and those that are plain already, as they are.

    Args:
        stage: See `explained`.

    Raises:
        UserError: It is the user's to mend.
        RunError: The run could not go on.
    """
    try:
        yield
    except Exception as error:
        told = explained(error, stage)
        if told is None or told is error:
            raise
        raise told from error


def _of_system(error: OSError) -> UserError | None:
    """By path and number; a system's error that names no path and is not about disks may well be our fault."""
    paths = " and ".join(str(_text(path)) for path in (error.filename, error.filename2) if path is not None)
    advice = MENDABLE.get(error.errno or 0)
    if paths:
        return UserError(f"{paths}: {advice or f'{error.strerror or error}; name another path'}")
    if error.errno == errno.ENOENT and _homeless():
        return UserError("the folder that the command was given in is not there any more; change to another one (cd)")
    if error.errno in PATHLESS and advice:
        return UserError(f"what was to be read or written: {advice}")
    return None


def _homeless() -> bool:
    """Whether the working directory has been removed."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _text(path: object) -> object:
    return path.decode(errors="backslashreplace") if isinstance(path, bytes) else path


def _of_tensors(error: BaseException) -> UserError:
    number = _SYSTEM.search(str(error))
    if number and (advice := MENDABLE.get(int(number[1]))):
        return UserError(f"a safetensors file: {advice} ({_first_line(error)})")
    return UserError(
        f"a safetensors file is damaged, or none ({_first_line(error)}); fetch or write it anew, or give --resume"
    )


def _unwritable(error: UnicodeEncodeError) -> UserError:
    found = error.object[error.start : error.end]
    if error.encoding.replace("-", "").lower() == "utf8":
        return UserError(
            f"{ascii(error.object)[:200]} has characters that are no Unicode ({found!a}), as the names of files "
            "may have; rename them"
        )
    return UserError(
        f"the output's encoding, {error.encoding}, has no {ascii(found)[:40]}; set PYTHONUTF8=1, or PYTHONIOENCODING="
        "utf-8, or write to a file with --output"
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
