"""The command line. Thin: options in, library calls, one clear message and exit code 2 for what the user can mend."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

from autolora.console import warn
from autolora.errors import CANCELLED
from autolora.training.kernels import bound_kernels


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the ``autolora`` command."""
    given = sys.argv[1:] if arguments is None else arguments
    arguments = [argument for argument in given if argument != "--debug"]  # every command has it
    # A terminated run is a cancelled one: SIGTERM takes the way of Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    # Python processes that are begun on the way import nothing from the working directory, as this one does not.
    os.environ["PYTHONSAFEPATH"] = "1"
    bound_kernels()
    _open_streams()
    try:
        _run(arguments)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and isinstance(end.__context__, BrokenPipeError):  # as typer ends then
            sys.exit(_end_closed())
        if isinstance(end, SystemExit) and end.code != CANCELLED:  # with this code typer ends at an interrupt
            raise
        warn(f"autolora: cancelled{_going_on(arguments)}")
        sys.exit(CANCELLED)
    except BrokenPipeError:
        sys.exit(_end_closed())
    except Exception as error:
        from autolora.cli.ending import end as end_with

        sys.exit(end_with(error, debug=arguments != given))


def _going_on(arguments: list[str]) -> str:
    """How what was interrupted goes on; "" for a command that keeps nothing to go on from."""
    command = next(iter(arguments), "")
    how = {"compare": "the same command", **dict.fromkeys(("search", "retrain", "eval", "run"), "--resume")}.get(
        command
    )
    return f"; {how} goes on from the last checkpoint" if how else ""


def _run(arguments: list[str]) -> None:
    """The command, and what it wrote to standard output delivered before it counts as done."""
    from autolora.cli.app import app

    try:
        app(args=arguments, standalone_mode=True)
    except SystemExit as end:
        if end.code == 0:
            sys.stdout.flush()
        raise


def _open_streams() -> None:
    """What was closed before the start is empty, or takes what nobody reads; no character ends a command."""
    if sys.stdin is None:  # first, so that no file that is opened later has its number
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 (likewise)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8", newline="\n"))  # noqa: SIM115 (until the process ends)
        elif hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _end_closed() -> int:
    from autolora.cli.ending import end_closed

    return end_closed()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
