"""One tracker of one run: what of the run it has not been sent, it is sent, and nothing twice."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from autolora.console import warn
from autolora.recipe.load import dump_recipe
from autolora.recipe.method import label
from autolora.registry import TRACKERS
from autolora.runs.folders import TRACKING, TUNING, told_apart
from autolora.runs.status import STAGES
from autolora.runs.store import Run
from autolora.trackers.base import About, Ended, Tracker, without_secrets
from autolora.trackers.content import Sent, flat, of_record, of_stage, records_of
from autolora.trackers.journal import Journal, digest_of

FOLDER = TRACKING  # in a run's folder
LONGEST = 150  # characters of recipe and method in a tracked run's name, which may be that of a folder


@dataclass(frozen=True)
class Group:
    """The comparison that a run is tracked as a part of.

    Args:
        name: Which.
        folder: Where its trackers keep what they write.
    """

    name: str
    folder: Path


class Follower:
    """One tracker of one run.

    Args:
        run: The run.
        name: The tracker's.
        group: Of a comparison's trial.
    """

    def __init__(self, run: Run, name: str, group: Group | None) -> None:
        self.run, self.name, self.group = run, name, group
        self.tracker: Tracker | None = None
        self.broken = False

    def begin(self, say: Callable[[str], None]) -> None:
        """Open it, and send what there is of the run.

        Args:
            say: Told where it writes.
        """

        def opened() -> None:
            self.journal = Journal(self.run.path / FOLDER / f"{self.name}.jsonl")
            made = self._made()
            say(f"tracked by {self.name}: {without_secrets(made.place())}")
            self._open(made)
            self._catch_up(*(stage for stage in STAGES if self.run.stage_state(stage) == "success"))

        self.attempt(opened)

    def attempt(self, action: Callable[[], None]) -> None:
        """Do something that may fail, and nothing once it has.

        Args:
            action: It.
        """
        if self.broken:
            return
        from autolora.training.seeds import unmoved

        try:
            with unmoved():
                action()
        except Exception as error:
            self.broken = True
            lines = [line for line in without_secrets(str(error)).splitlines() if line.strip()]
            said = f"{type(error).__name__}: {lines[0].strip()[:300]}" if lines else type(error).__name__
            warn(
                f"{self.name} tracks {self.run.path} no more ({said}); the run goes on without it. "
                f"What is missing there is sent later by: autolora run {self.run.path} --resume --track {self.name}"
            )
            with suppress(Exception), unmoved():  # or what it has open would take in this process's next run
                self.close("cancelled")

    def record(self, log: str, record: Mapping[str, object]) -> None:
        """Send a record of a log that has not been sent.

        Args:
            log: Its folder.
            record: With its "step".
        """
        what, digest = f"{log} {record['step']}", digest_of(record)
        if self.journal.digest(what) not in ("", digest):  # the stage was begun anew, with other settings
            self._renew(log.partition("/")[0])
        self._send(what, digest, of_record(log, record))

    def stage(self, stage: str) -> None:
        """Send what of a stage has not been sent: of its logs, and of its files.

        Args:
            stage: That has succeeded.
        """
        for log, record in records_of(self.run, stage):
            self.record(log, record)
        for i, found in enumerate(of_stage(self.run, stage)):
            self._send(f"end of {stage} {i}", digest_of(found.content()), found)

    def close(self, ended: Ended = "success") -> None:
        """End it for this process.

        Args:
            ended: How the run has ended for it.
        """
        tracker, self.tracker = self.tracker, None
        if tracker is not None:
            tracker.ended = ended
            tracker.close()

    def _renew(self, stage: str) -> None:
        """A tracked run of its own for what the run is now; the stages before are sent again."""
        self.close()
        self.journal.forget()
        self._open(self._made())
        self._catch_up(*STAGES[: STAGES.index(stage)])

    def _catch_up(self, *stages: str) -> None:
        for stage in stages:
            if self.run.stage_state(stage) == "success":
                self.stage(stage)

    def _made(self) -> Tracker:
        recipe = self.run.recipe
        tags = {"recipe": recipe.name, "method": label(recipe.method), "seed": str(recipe.seed)}
        group = self.group.name if self.group else ""
        return TRACKERS.load(self.name)(About(recipe.name, self._called(), group, tags, self._folder()))

    def _called(self) -> str:
        """Unlike every other tracked run that is kept in the same place."""
        recipe, name = self.run.recipe, self.run.path.name
        if self.group is not None:
            tuning = "tuning-" if self.run.path.parent.name == TUNING else ""
            what = _bounded(f"{recipe.name}-{label(recipe.method)}")
            name = f"{what}-{recipe.seed}-{tuning}{name[:15]}{told_apart(self.run.path, recipe)}"  # when it was begun
        plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name)
        return plain + (f"-{self.journal.number}" if self.journal.number > 1 else "")

    def _folder(self) -> Path:
        """Where it was first kept, or the comparison's, or the run's own."""
        if self.journal.folder is not None:
            return Path(os.path.normpath(self.run.path.absolute() / self.journal.folder))
        return (self.run.path / FOLDER if self.group is None else self.group.folder).absolute()

    def _open(self, made: Tracker) -> None:
        run_id = made.open(self.journal.run_id)
        self.tracker = made
        folder = os.path.relpath(made.about.folder, self.run.path.absolute())
        self.journal.begin(run_id, Path(folder).as_posix())
        if not self.journal.digest("recipe"):
            text = dump_recipe(self.run.recipe)
            self._once("recipe", digest_of(text), partial(made.config, flat(self.run.recipe), text))

    def _send(self, what: str, digest: str, sent: Sent) -> None:
        """What of it has not been sent: first its numbers, whose digest stands for all of it."""
        tracker, step = self.tracker, sent.step
        assert tracker is not None
        self._once(what, digest, lambda: tracker.scalars(sent.scalars, step))
        if sent.histograms:
            self._once(f"{what} histograms", digest, lambda: tracker.histograms(sent.histograms, step))
        for name, path in sent.pictures.items():
            self._once(f"{what} {name}", digest, partial(tracker.picture, name, path, step))

    def _once(self, what: str, digest: str, send: Callable[[], None]) -> None:
        before = self.journal.digest(what)
        if before == digest:
            return
        self.journal.note(what, digest)
        try:
            send()
        except Exception:
            self.journal.note(what, before)
            raise


def _bounded(text: str) -> str:
    """A text, or the beginning of a longer one with what tells it from others that begin alike."""
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
