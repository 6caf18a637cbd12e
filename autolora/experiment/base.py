"""The pretrained model settled once a run: ``settle_base(run, context)``, in front of every stage."""

from __future__ import annotations

from functools import partial

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.runs.base import Base, differences, read_base, write_base
from autolora.runs.status import STAGES
from autolora.runs.store import Run


def settle_base(run: Run, context: Context) -> None:
    """Make the stage stop at the model that it loads if the run was begun on another one; keep which one it is.

    Args:
        run: The run.
        context: Of its recipe.
    """
    context.on_base = partial(_settle, run, context.main)


def check_base(run: Run, found: Base) -> None:
    """Make sure that a run, and those that it builds on, were begun on the model that was loaded.

    Args:
        run: The run; nothing is written.
        found: What was loaded.

    Raises:
        UserError: One was begun on another.
    """
    for path in (run.path, *run.base_runs()):
        kept = read_base(path)
        if kept is not None and (other := ", ".join(differences(kept, found))):
            raise UserError(
                f"model.name: {path} was begun on another model than {run.recipe.model.name} is now, by {other}; "
                "put the former one back, name its place with --model, or start a new run"
            )


def _settle(run: Run, main: bool, found: Base) -> None:
    check_base(run, found)
    begun = any(run.stage_state(stage) == "success" for stage in STAGES)  # by a version that kept nothing
    if main and not begun and read_base(run.path) is None:
        write_base(run.path, found)
