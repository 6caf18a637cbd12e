"""Which of several runs --resume goes on with: ``to_resume(same_runs(root, recipe), "eval")``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autolora.errors import UserError
from autolora.runs.status import STAGES
from autolora.runs.store import Run


@dataclass(frozen=True)
class Resumable:
    """The run that is gone on with.

    Args:
        run: The newest that is not finished; where all are, the newest.
        finished: Whether all are.
        others: That are not finished either, newest first.
    """

    run: Run
    finished: bool
    others: tuple[Run, ...]

    @property
    def remark(self) -> str:
        """What the user should know of the choice; "" where there was none."""
        if self.finished:
            return "no run of this recipe is unfinished, and the newest that is finished is taken: " + str(
                self.run.path
            )
        if self.others:
            paths = ", ".join(str(run.path) for run in self.others)
            return f"the newest unfinished run of this recipe is gone on with; unfinished, too: {paths}"
        return ""


def to_resume(found: Sequence[Run], last: str) -> Resumable | None:
    """The run to go on with.

    Args:
        found: Runs of one recipe, oldest first.
        last: The stage that the command ends with, one of `STAGES`.

    Returns:
        None where there is no run.
    """
    unfinished = [run for run in reversed(found) if not is_finished(run, last)]
    if not found:
        return None
    return Resumable((unfinished or [found[-1]])[0], not unfinished, tuple(unfinished[1:]))


def has_begun(run: Run, stage: str) -> bool:
    """Whether a run has begun a stage, however that went; not if its status is damaged.

    Args:
        run: The run.
        stage: One of `STAGES`.
    """
    try:
        return run.stage_state(stage) is not None
    except UserError:
        return False


def is_finished(run: Run, last: str) -> bool:
    """Whether a run has come to the end of a stage, and of those before it that it has begun.

    Args:
        run: The run; of one whose status is damaged it cannot be said, and it is not gone on with.
        last: One of `STAGES`.
    """
    try:
        states = [run.stage_state(stage) for stage in STAGES[: STAGES.index(last) + 1]]
    except UserError:
        return True
    return states[-1] == "success" and all(state in (None, "success") for state in states)
