"""The command line. Thin: options in, library calls, one clear message and exit code 2 for what the user can mend."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from autolora.console import show_traceback, warn
from autolora.errors import BUG, CANCELLED, FAILED, FAULT, RecipeError, RunError, UserError


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the ``autolora`` command."""
    from autolora.cli.app import app

    given = sys.argv[1:] if arguments is None else arguments
    arguments = [argument for argument in given if argument != "--debug"]  # every command has it
    debug = arguments != given
    if debug:
        sys.excepthook = show_traceback
    # A terminated run is a cancelled one: SIGTERM takes the way of Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(args=arguments, standalone_mode=True)
    except UserError as error:
        if debug:
            raise
        _say(error)
        sys.exit(FAULT)
    except RunError as error:
        if debug:
            raise
        warn(f"autolora: the run failed: {error}")
        sys.exit(FAILED)
    except (KeyboardInterrupt, SystemExit) as end:  # typer makes an exit with this code of an interrupt
        if isinstance(end, SystemExit) and end.code != CANCELLED:
            raise
        how = "the same command" if arguments[:1] == ["compare"] else "--resume"
        warn(f"autolora: cancelled; {how} goes on from the last checkpoint")
        sys.exit(CANCELLED)
    except Exception as error:
        if debug:
            raise
        warn(
            f"autolora: failed: {type(error).__name__}: {error}\n"
            "The run's status.json has the traceback; --debug shows it here; "
            "--resume goes on from the last checkpoint."
        )
        sys.exit(BUG)


def _say(error: UserError) -> None:
    if isinstance(error, RecipeError):
        count = len(error.faults)
        warn(f"autolora: the recipe has {count} fault{'s' if count > 1 else ''}:")
        for fault in error.faults:
            warn(f"  {fault}")
    else:
        warn(f"autolora: {error}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
