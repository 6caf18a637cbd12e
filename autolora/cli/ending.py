"""How a command ends that does not end well: its message on standard error, and its exit code.

What is the user's to mend, and what came of a run, is one message. A fault of ours says where its traceback is, and how
to report it. With --debug the traceback is shown, too; the exit code is the same.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import traceback
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from autolora.causes import explained
from autolora.console import warn
from autolora.errors import BUG, FAILED, FAULT, RecipeError, RunError, UserError, kept_in

CLOSED = "standard output was closed before everything was written to it; what was to be in files is there"
DRAWN = ("issues", "tracker", "repository", "source", "homepage")  # of a project's URLs, the best first


def end(error: Exception, *, debug: bool) -> int:
    """Say what happened.

    Args:
        error: What the command ended with.
        debug: Whether its traceback is shown.

    Returns:
        The exit code.
    """
    if debug:
        warn("".join(traceback.format_exception(error)).rstrip("\n"))
    told = explained(error)
    if isinstance(told, UserError):
        warn(_message(told))
        return FAULT
    if isinstance(told, RunError):
        warn(f"autolora: the run failed: {told}")
        return FAILED
    _say_bug(error, shown=debug)
    return BUG


def end_closed() -> int:
    """Say that what was to be read from standard output was not; nothing more is written to it.

    Returns:
        The exit code.
    """
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):  # it is no file of the system's
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8", newline="\n")  # noqa: SIM115 (until the process ends)
    warn(f"autolora: {CLOSED}")
    return FAULT


def _message(error: UserError) -> str:
    if not isinstance(error, RecipeError):
        return f"autolora: {error}"
    count = len(error.faults)
    head = f"autolora: the recipe has {count} fault{'s' if count > 1 else ''}:"
    return "\n".join([head, *(f"  {fault}" for fault in error.faults)])


def _say_bug(error: Exception, *, shown: bool) -> None:
    report = _report(error)
    run = kept_in(error)
    place = run or (None if shown else _write(report))
    if place is None and not shown:
        warn(report.rstrip("\n"))
    where = f"its traceback is in {place}" if place else "its traceback is above"
    attach = f"{place}, the run's recipe.yaml and manifest.json" if run else place or "what is above"
    warn(
        f"autolora: failed: {type(error).__name__}: {error}\n"
        f"This is a fault of autolora's, not yours; {where}.\n"
        f"Please report it{_to()}, with the command and {attach}. --debug shows the traceback here"
        + ("; --resume goes on from the last checkpoint." if run else ".")
    )


def _report(error: Exception) -> str:
    """The traceback, and what it arose in."""
    from autolora import __version__

    made = f"autolora {__version__}, Python {platform.python_version()}, {platform.platform()}"
    return f"{made}\n\n{''.join(traceback.format_exception(error))}"


def _write(report: str) -> Path | None:
    """A new file among the temporary ones, readable by its owner; None where none can be written."""
    try:
        handle, name = tempfile.mkstemp(prefix="autolora-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n", errors="backslashreplace") as file:
            file.write(report)
    except OSError:
        return None
    return Path(name)


def _to() -> str:
    """The project's address, where its metadata has one."""
    try:
        urls = metadata("autolora").get_all("Project-URL") or []
    except PackageNotFoundError:
        return ""
    named = {name.strip().lower(): url.strip() for name, _, url in (text.partition(",") for text in urls)}
    found = next((named[name] for name in DRAWN if name in named), next(iter(named.values()), ""))
    return f" at {found}" if found else ""
