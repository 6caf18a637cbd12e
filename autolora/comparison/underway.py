"""How far a comparison is, from files alone: ``Watched(folder).look(now)``, by any process that sees the folder.

The trials are those of its plan (`autolora.comparison.planned`), or, of an earlier version's, of trials.json. Runs are
read again only where something of them has changed. Takes neither torch nor a lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean, stdev

from autolora.comparison.planned import Cell, Listed, read_planned
from autolora.errors import UserError
from autolora.files import read_json
from autolora.runs.folders import COMPARISONS, TRIALS, is_run
from autolora.runs.progress import Progress, progress
from autolora.runs.summary import FINISHED, RUNNING, SETTLED, Seen, Summary, seen, state_now, summarise

DONE, WAITING, FAILED = "done", "waiting", "failed"
STATES = (DONE, RUNNING, WAITING, FAILED)


@dataclass(frozen=True)
class Trial:
    """A trial at a moment.

    Args:
        cell: As it was planned.
        state: One of `STATES`; what is interrupted waits while a comparison is at it, and has failed otherwise.
        summary: Of its run; None where there is none.
        progress: Of its run, while that runs.
    """

    cell: Cell
    state: str
    summary: Summary | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class Mean:
    """The scores of a method on a recipe, at a point of a sweep where there is one, so far.

    Args:
        recipe: Its name.
        arm: The method's label, and the point.
        metric: What the scores are; None where there is none yet.
        scores: One for each seed that is done and has one.
        states: How many trials are in which state.
    """

    recipe: str
    arm: str
    metric: str | None
    scores: tuple[float, ...]
    states: Mapping[str, int]

    @property
    def shown(self) -> str:
        """Mean and standard deviation; "" where there is no score."""
        if not self.scores:
            return ""
        return f"{fmean(self.scores):.4f}" + (f" ± {stdev(self.scores):.4f}" if len(self.scores) > 1 else "")


@dataclass(frozen=True)
class Underway:
    """A comparison at a moment.

    Args:
        trials: In the order that they are begun in.
        alive: Whether a process is at it.
        left: Seconds until all are done; None where that is not known.
    """

    trials: tuple[Trial, ...]
    alive: bool
    left: float | None

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self.alive or any(trial.state == RUNNING for trial in self.trials)

    def count(self, state: str) -> int:
        """How many trials are in a state.

        Args:
            state: One of `STATES`.
        """
        return sum(trial.state == state for trial in self.trials)

    def means(self) -> list[Mean]:
        """By recipe, method and point, in the plan's order; what tuning tries is not among them."""
        groups: dict[tuple[str, str], list[Trial]] = {}
        for trial in self.trials:
            if not trial.cell.tuning:
                groups.setdefault((trial.cell.recipe, trial.cell.arm), []).append(trial)
        return [_mean(recipe, arm, mine) for (recipe, arm), mine in groups.items()]


class Watched:
    """A comparison that is looked at again and again.

    Args:
        folder: Its folder, with plan.json or trials.json.

    Raises:
        UserError: It has neither.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[Path, tuple[Seen, Summary]] = {}
        if not is_comparison(folder):
            raise UserError(f"{folder} is neither a run nor a comparison: it has no plan.json and no trials.json")

    def look(self, now: datetime) -> Underway:
        """The comparison as it is now.

        Args:
            now: The time.
        """
        listed = read_planned(self.folder) or Listed(tuple(_of_trials(self.folder)), alive=False)
        trials = tuple(self._trial(cell, listed.alive, now) for cell in listed.cells)
        return Underway(trials, listed.alive, _left(trials))

    def _trial(self, cell: Cell, alive: bool, now: datetime) -> Trial:
        path = None if cell.run is None else _inside(self.folder, cell.run)
        unknown = WAITING if alive else FAILED
        if path is None or not is_run(path):
            return Trial(cell, unknown)
        summary = self._summary(path)
        if summary.state == FINISHED:
            return Trial(cell, DONE, summary)
        state = summary.state if summary.state in SETTLED else state_now(path, summary.state)
        if state == RUNNING:
            return Trial(cell, RUNNING, summary, progress(path, now))
        return Trial(cell, FAILED if state in (FAILED, *SETTLED) else unknown, summary)

    def _summary(self, path: Path) -> Summary:
        now, known = seen(path), self._known.get(path)
        if known is None or known[0] != now:
            known = now, summarise(path, path.name)
            self._known[path] = known
        return known[1]


def is_comparison(folder: Path) -> bool:
    """Whether a folder is a comparison's.

    Args:
        folder: Any.
    """
    return any((folder / name).is_file() for name in ("plan.json", TRIALS))


def _inside(folder: Path, run: str) -> Path | None:
    """A run that a comparison's file names; None where it lies outside the folder of the runs."""
    above = [parent.parent for parent in folder.resolve().parents if parent.name == COMPARISONS]
    root = above[0] if above else folder.resolve().parent
    path = Path(os.path.normpath(folder.resolve() / run))
    return path if not Path(run).is_absolute() and path.resolve().is_relative_to(root) else None


def _of_trials(folder: Path) -> Iterable[Cell]:
    """The trials of a comparison that has ended, as its list of results has them."""
    try:
        found = read_json(folder / TRIALS)
    except UserError:
        return
    for each in found if isinstance(found, list) else []:
        words = [each.get(name) if isinstance(each, dict) else None for name in ("recipe", "method", "seed", "run")]
        recipe, method, seed, run = words
        if isinstance(recipe, str) and isinstance(method, str) and type(seed) is int and isinstance(run, str | None):
            yield Cell(recipe, method, seed, tuning=False, run=run, jobs=1, by="")


def _mean(recipe: str, arm: str, trials: Sequence[Trial]) -> Mean:
    known = [trial.summary for trial in trials if trial.state == DONE and trial.summary is not None]
    metric = next((each.metric for each in known if each.metric is not None), None)
    scores = tuple(each.score for each in known if each.score is not None and each.metric == metric)
    return Mean(recipe, arm, metric, scores, {state: sum(t.state == state for t in trials) for state in STATES})


def _left(trials: Sequence[Trial]) -> float | None:
    """What is not done takes what its like took: of its recipe, method and point, or of what is known of these."""
    left = 0.0
    for trial in trials:
        if trial.state not in (RUNNING, WAITING):
            continue
        whole = _usual(trial.cell, trials)
        now = trial.progress
        if whole is None:
            return None
        spent = 0.0 if now is None else (now.summary.seconds or 0.0) + (now.seconds or 0.0)
        left += whole if now is None else max(whole - spent, now.left or 0.0)
    jobs = max((trial.cell.jobs for trial in trials), default=1)
    return left / max(1, min(jobs, sum(trial.state in (RUNNING, WAITING) for trial in trials)))


def _usual(cell: Cell, trials: Sequence[Trial]) -> float | None:
    """The mean seconds of what is done and like a trial; None where nothing is done."""
    took = [(t.cell, t.summary.seconds) for t in trials if t.state == DONE and t.summary is not None]
    known = [(each, seconds) for each, seconds in took if seconds is not None]
    alike = [(each, s) for each, s in known if each.recipe == cell.recipe]
    method = [(each, s) for each, s in alike if each.method == cell.method]
    same = [(each, s) for each, s in method if each.at == cell.at]
    found = [s for _, s in same or method or alike or known]
    return fmean(found) if found else None
