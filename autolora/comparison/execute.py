"""Run the trials of a comparison, each in a process of its own: ``execute(trials, root, jobs=2)``.

A trial that fails, however it fails, leaves its reason in its run's status.json, and the others go on. A process has
its own peak of memory, its own state of the device, and ends when the comparison ends, however that ends. Trials are
resumed where they were interrupted; a trial whose needs have failed is not begun. A trial whose search another one is
at waits for that search, and takes it over; where it fails, the next one searches itself.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from autolora.comparison.plan import Trial, trial_key
from autolora.comparison.precision import settle
from autolora.comparison.processes import process_context, start
from autolora.comparison.worker import work
from autolora.methods.sharing import has_search, offer
from autolora.recipe.method import label
from autolora.runs.folders import TUNING
from autolora.runs.store import Run

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

    from autolora.training.compute import Precision


LOOK_EVERY = 0.5  # seconds, for the end of a search that a trial waits for


@dataclass
class _Job:
    """A trial whose process is running."""

    trial: Trial
    run: Run
    process: BaseProcess
    begun: float


class _Searches:
    """Who has made which search, by its key."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.keys = {trial_key(trial.recipe): trial.search_key for trial in trials}
        self.made = {self.key(trial): source for trial in trials if (source := trial.source) is not None}
        self.made.pop(None, None)

    def key(self, trial: Trial) -> str | None:
        return self.keys[trial_key(trial.recipe)]

    def look(self, jobs: Sequence[_Job]) -> None:
        """Note the searches that have been made by now."""
        for job in jobs:
            key = self.key(job.trial)
            if key is not None and key not in self.made and has_search(job.run):
                self.made[key] = job.run

    def underway(self, trial: Trial, jobs: Sequence[_Job]) -> bool:
        """Whether a running trial is at the search of another one, or about to be."""
        key = self.key(trial)
        return key is not None and key not in self.made and any(self.key(job.trial) == key for job in jobs)

    def offer(self, trial: Trial, run: Run) -> None:
        """Tell a trial that begins whose search it may take over."""
        source = self.made.get(self.key(trial))
        if source is not None and not has_search(run):
            offer(run, source)


def execute(
    trials: Sequence[Trial],
    root: Path,
    *,
    jobs: int = 1,
    show: bool = False,
    on_begin: Callable[[Trial, Run], None] = lambda trial, run: None,
    on_end: Callable[[Trial, Run, float], None] = lambda trial, run, seconds: None,
) -> list[Run]:
    """Run all trials that are not done, `jobs` at a time.

    Args:
        trials: From `autolora.comparison.plan.plan`, what is built on in front.
        root: Where new runs go.
        jobs: How many processes run at a time.
        show: Show their progress.
        on_begin: Told of every trial that begins.
        on_end: Told of every trial that ends, and the seconds that its process took.

    Returns:
        The trials' runs, in their order.
    """
    runs = {trial_key(trial.recipe): trial.run for trial in trials if trial.run is not None}
    waiting = [trial for trial in trials if not trial.done]
    running: list[_Job] = []
    searches = _Searches(trials)
    context, precisions = process_context(), settle(trials)
    try:
        while waiting or running:
            while len(running) < jobs and (trial := _next(waiting, running, searches)) is not None:
                waiting.remove(trial)
                folder = TUNING if trial.tuning else ""
                run = runs.setdefault(trial_key(trial.recipe), trial.run or Run.create(root, trial.recipe, folder))
                if _can_begin(trial, run, runs):
                    searches.offer(trial, run)
                    given = (precisions[trial.recipe.name], jobs, show)
                    running.append(_begin(trial, run, runs, context, *given))
                    on_begin(trial, run)
                else:
                    on_end(trial, run, 0.0)
            if not running:  # none of those tried could begin
                continue
            idle = len(running) < jobs and any(searches.underway(trial, running) for trial in waiting)
            wait([job.process.sentinel for job in running], LOOK_EVERY if idle else None)
            searches.look(running)
            for job in [job for job in running if not job.process.is_alive()]:
                running.remove(job)
                job.process.join()
                _finish(job)
                on_end(job.trial, job.run, time.monotonic() - job.begun)
    finally:
        _stop(running)
    return [runs[trial_key(trial.recipe)] for trial in trials]


def _next(waiting: Sequence[Trial], running: Sequence[_Job], searches: _Searches) -> Trial | None:
    """The first trial whose needs have ended, well or not, and whose search no other one is at."""
    unfinished = {trial_key(trial.recipe) for trial in (*waiting, *(job.trial for job in running))}
    ready = (trial for trial in waiting if unfinished.isdisjoint(map(trial_key, trial.needs)))
    return next((trial for trial in ready if not searches.underway(trial, running)), None)


def _can_begin(trial: Trial, run: Run, runs: dict[str, Run]) -> bool:
    """Not if another process is at it, and not (which is noted) if what it builds on did not succeed."""
    if run.live_process() is not None:
        return False
    for needed in trial.needs:
        if runs[trial_key(needed)].stage_state("eval") != "success":
            run.mark("failed", error=f"it builds on {label(needed.method)}, which did not succeed")
            return False
    return True


def _begin(
    trial: Trial,
    run: Run,
    runs: dict[str, Run],
    context: SpawnContext | ForkServerContext,
    precision: Precision,
    jobs: int,
    show: bool,
) -> _Job:
    run.recipe = trial.recipe  # where the data lies may have changed
    run.mark("running")
    for needed in trial.needs:
        run.add_base_run(label(needed.method), runs[trial_key(needed)])
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None
    process = context.Process(target=work, args=(str(run.path), trial.recipe, precision, threads, show), daemon=False)
    start(process)
    return _Job(trial, run, process, time.monotonic())


def _finish(job: _Job) -> None:
    """A process that could not say why it ended has its reason written here."""
    code = job.process.exitcode
    if code == 0 or job.run.status()["state"] in ("failed", "cancelled"):
        return
    how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
    hint = "; was memory short?" if code == -signal.SIGKILL else ""
    job.run.mark("failed", error=f"its process ended with {how}{hint}")


def _stop(running: Sequence[_Job]) -> None:
    """Cancel what is running (SIGTERM takes the way of Ctrl-C there), and wait for it."""
    for job in running:
        if job.process.is_alive():
            job.process.terminate()
    for job in running:
        job.process.join()
