"""Whose a trial is, of several comparisons in one folder: one is at it, and the others take what came of it.

    cells = Cells(trials, root)
    if cells.take(trial):  # else another comparison is at it: cells.holder(trial)
        run = cells.run_of(trial)  # which that one may have made meanwhile
        cells.free(trial)

A trial's lock lies in the folder of its recipe's runs and is there before its run is, so that two comparisons do not
both make one. The process that is at the run holds the run's own lock beside it (`autolora.runs.lock`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autolora.comparison.keys import trial_key
from autolora.comparison.plan import Trial
from autolora.errors import UserError
from autolora.runs.folders import TUNING
from autolora.runs.lock import HeldError, Holder, Lock
from autolora.runs.store import Run


class Cells:
    """The trials of this comparison among those of others.

    Args:
        trials: As they were planned.
        root: Where runs are.
    """

    def __init__(self, trials: Sequence[Trial], root: Path) -> None:
        self.root = root
        self._before = {trial_key(trial.recipe): None if trial.run is None else trial.run.status() for trial in trials}
        self._planned = {trial_key(trial.recipe): trial.run for trial in trials}
        self._locks: dict[str, Lock] = {}
        self._seen: set[Path] = set()
        self._runs: dict[str, list[tuple[str, Run]]] = {}  # by the trial: when each was made
        for trial in trials:
            if trial.done and self._lock(trial).path.exists() and self.take(trial):
                self.free(trial)  # whoever held it was killed between the trial's end and its own

    def take(self, trial: Trial) -> bool:
        """Whether the trial is this comparison's from now on.

        Args:
            trial: One that this comparison has not taken.
        """
        key = trial_key(trial.recipe)
        lock = self._lock(trial)
        try:
            lock.acquire()
        except HeldError:
            return False
        self._locks[key] = lock
        return True

    def free(self, trial: Trial) -> None:
        """Leave a trial to others.

        Args:
            trial: One that was taken, or none.
        """
        lock = self._locks.pop(trial_key(trial.recipe), None)
        if lock is not None:
            lock.release()

    def free_all(self) -> None:
        """Leave all trials to others."""
        while self._locks:
            self._locks.popitem()[1].release()

    def holder(self, trial: Trial) -> Holder | None:
        """Who else is at a trial.

        Args:
            trial: Which this comparison could not take.
        """
        return self._lock(trial).holder()

    def run_of(self, trial: Trial) -> Run | None:
        """The trial's run as of now: the newest that has ended, or the newest; None where there is none.

        Args:
            trial: Of the plan.
        """
        self._look(trial)
        found = self._runs.get(trial_key(trial.recipe), [])
        if not found:
            return self._planned[trial_key(trial.recipe)]
        return max(found, key=lambda made: (made[1].stage_state("eval") == "success", made[0]))[1]

    def failed_elsewhere(self, trial: Trial, run: Run) -> bool:
        """Whether the run has failed since the plan was made: another comparison has tried, and this one does not.

        Args:
            trial: Of the plan.
            run: Its run.
        """
        status: dict[str, Any] = run.status()
        return status["state"] == "failed" and status != self._before[trial_key(trial.recipe)]

    def _folder(self, trial: Trial) -> Path:
        return self.root / trial.recipe.name / (TUNING if trial.tuning else "")

    def _lock(self, trial: Trial) -> Lock:
        folder = self._folder(trial)
        folder.mkdir(parents=True, exist_ok=True)
        return Lock(folder / f".{hashlib.sha256(trial_key(trial.recipe).encode()).hexdigest()[:16]}.lock")

    def _look(self, trial: Trial) -> None:
        """Open the runs that have been made since the last look; a damaged one is left out, one half made waits."""
        folder = self._folder(trial)
        if not folder.is_dir():
            return
        for path in folder.iterdir():
            if path in self._seen or not (path / "recipe.yaml").is_file():
                continue
            self._seen.add(path)
            try:
                run = Run.open(path)
                self._runs.setdefault(trial_key(run.recipe), []).append((str(run.manifest().get("created", "")), run))
            except UserError:
                continue
