"""``status.json`` of a run: running, success, failed or cancelled, as a whole and by stage, and a failure's traceback.

with Status(folder).during("search"): ...
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autolora.causes import explained
from autolora.console import warn
from autolora.errors import UserError, keep
from autolora.files import remove_leftovers, write_state
from autolora.runs.inventory import MANIFEST, STATUS, read_run_state
from autolora.runs.seal import Seal, drop_beside

STAGES = ("search", "retrain", "eval")


def counting(stages: Mapping[str, Any]) -> dict[str, Any]:
    """The stages that count: an adapter that is being made anew has not been measured, whatever was before it.

    Args:
        stages: Of status.json, by name.
    """
    ended = {name: stage.get("state") == "success" for name, stage in stages.items()}
    stale = ended.get("eval", False) and not ended.get("retrain", True)
    return {name: stage for name, stage in stages.items() if not (stale and name == "eval")}


class Status:
    """The states of one run.

    Args:
        folder: The run's.
        main: Whether this process writes (one does, of several).
    """

    def __init__(self, folder: Path, *, main: bool = True) -> None:
        self.folder, self.main = folder, main

    def read(self) -> dict[str, Any]:
        """What the file says: "state" of the run, and "stages" by name.

        Raises:
            UserError: It is missing or damaged.
        """
        return read_run_state(self.folder / STATUS)

    def stage(self, name: str) -> str | None:
        """The state of a stage: running, success, failed, cancelled; None: not begun, or it does not count any more.

        Args:
            name: One of `STAGES`.
        """
        state = counting(self.read()["stages"]).get(name, {}).get("state")
        return None if state is None else str(state)

    def running(self) -> str | None:
        """The stage that was begun last of those that are marked as running."""
        stages = {name: each for name, each in self.read()["stages"].items() if each["state"] == "running"}
        return max(stages, key=lambda name: str(stages[name].get("at", "")), default=None)

    def mark(self, state: str, **values: object) -> None:
        """The state of the run as a whole, for what no stage can say: that it waits, or ended before one began.

        Args:
            state: running, failed, cancelled.
            values: JSON-able, such as an "error".
        """
        if self.main:
            known = {key: value for key, value in self.read().items() if key in ("format", "stages")}
            write_state(self.folder / STATUS, {**known, "state": state, **values})

    def mark_stage(self, name: str, state: str, **values: object) -> None:
        """The state of a stage, which is the run's, too.

        Args:
            name: One of `STAGES`.
            state: running, success, failed, cancelled.
            values: JSON-able, such as an "error".
        """
        if self.main:
            status = self.read()
            status["state"] = state
            status["stages"][name] = {"state": state, "at": datetime.now(UTC).isoformat(), **values}
            write_state(self.folder / STATUS, status)

    def forget_after(self, name: str) -> None:
        """What later stages have made is of another product than the one that a stage has now: they are to be done.

        Args:
            name: The stage's.
        """
        status, later = self.read(), STAGES[STAGES.index(name) + 1 :]
        left = {each: stage for each, stage in status["stages"].items() if each not in later}
        if left != status["stages"]:
            write_state(self.folder / STATUS, {**status, "stages": left})

    def _say_dropped(self, names: list[str]) -> None:
        if names:
            warn(
                f"{self.folder}: removed, as what they were made of was replaced: {' '.join(names)}; "
                f"write anew with: autolora eval {self.folder} --submission, or --harness TASKS"
            )

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """Marks a stage as running, and then as success, failed (keeping the traceback) or cancelled.

        Later stages that had ended are forgotten where it comes to another product than they were made of. One that had
        ended, and is refused before anything of it is written, stays as it was.

        Args:
            name: One of `STAGES`.
        """
        if self.main:
            remove_leftovers(self.folder)
        ended = self.read()["stages"].get(name, {}).get("state") == "success"
        states = [file for each in (STATUS, MANIFEST) if ended and (file := self.folder / each).exists()]
        before = {file: read_run_state(file) for file in states}
        seal = Seal(self.folder, name, ended=ended) if self.main else None
        self.mark_stage(name, "running", pid=os.getpid())
        begun = time.monotonic()
        try:
            yield
            if seal is not None:
                if seal.changed():  # forgotten before it is listed: whoever is killed in between does them again
                    self.forget_after(name)
                    self._say_dropped(drop_beside(self.folder) if name != STAGES[-1] else [])
                seal.close()
        except KeyboardInterrupt:
            with suppress(OSError):
                self.mark_stage(name, "cancelled")
            raise
        except BaseException as error:
            told = explained(error, name) or error
            # A full disk, say, is not to hide the reason; the run stays one that was cut off then.
            with suppress(OSError):
                if ended and seal is not None and _is_refusal(error) and seal.untouched():
                    for file, content in before.items():
                        write_state(file, content)
                else:
                    self.mark_stage(name, "failed", error=str(told), traceback=traceback.format_exc())
                    keep(told, self.folder / STATUS)
            if told is error:
                raise
            raise told from error
        self.mark_stage(name, "success", seconds=round(time.monotonic() - begun, 2))


def _is_refusal(error: BaseException) -> bool:
    """Whether what was asked for cannot be done; a file that could not be written is a failure."""
    return isinstance(error, UserError) and not isinstance(error.__cause__, OSError)
