"""Run the trials of a comparison, each in a process of its own: ``execute(trials, root, jobs=2)``.

A trial that fails, however it fails, leaves its reason in its run's status.json, and the others go on. A process has
its own peak of memory, its own state of the device, and ends when the comparison ends, however that ends. Trials are
resumed where they were interrupted; a trial whose needs have failed is not begun. A trial whose search another one is
at waits for that search, and takes it over; where it fails, the next one searches itself. A trial that another
process is at, such as another comparison in the same folder, is waited for, and taken as it then is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path

from autolora.comparison.cells import Cells
from autolora.comparison.plan import Trial, trial_key
from autolora.comparison.precision import settle, settled
from autolora.comparison.processes import Job, how_it_ended, process_context, start
from autolora.comparison.worker import BUSY, remove_checkpoints, work
from autolora.errors import RunError
from autolora.methods.sharing import has_search, offer
from autolora.recipe.method import label
from autolora.runs.folders import TUNING
from autolora.runs.lock import LOOK_EVERY, HeldError, Holder
from autolora.runs.store import Run
from autolora.trackers.follow import UNTRACKED, Tracking

SERVER_LOST = (
    "the server that begins the trials' processes has ended (killed, or short of memory?): another one is begun, and "
    "the trials that ended with it are gone on with from their last checkpoints"
)
LOOK_AT_MEMORY = 1.0  # seconds between two looks at the memory of the trials' processes
Underway = Sequence[tuple[Trial, Run | None]]  # trials that processes are at, here or elsewhere, with their runs


class _Searches:
    """Who has made which search, by its key."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.keys = {trial_key(trial.recipe): trial.search_key for trial in trials}
        self.made = {self.key(trial): source for trial in trials if (source := trial.source) is not None}
        self.made.pop(None, None)

    def key(self, trial: Trial) -> str | None:
        return self.keys[trial_key(trial.recipe)]

    def look(self, underway: Underway) -> None:
        """Note the searches that have been made by now."""
        for trial, run in underway:
            key = self.key(trial)
            if key is not None and key not in self.made and run is not None and has_search(run):
                self.made[key] = run

    def underway(self, trial: Trial, underway: Underway) -> bool:
        """Whether a running trial is at the search of another one, or about to be."""
        key, own = self.key(trial), trial_key(trial.recipe)
        others = (other for other, _ in underway if trial_key(other.recipe) != own)
        return key is not None and key not in self.made and any(self.key(other) == key for other in others)

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
    tracking: Tracking = UNTRACKED,
    on_begin: Callable[[Trial, Run], None] = lambda trial, run: None,
    on_end: Callable[[Trial, Run, float], None] = lambda trial, run, seconds: None,
    on_notice: Callable[[str], None] = lambda text: None,
) -> list[Run]:
    """Run all trials that are not done, `jobs` at a time.

    Args:
        trials: From `autolora.comparison.plan.plan`, what is built on in front.
        root: Where new runs go.
        jobs: How many processes run at a time.
        show: Show their progress.
        tracking: What follows them.
        on_begin: Told of every trial that begins.
        on_end: Told of every trial that ends, and the seconds that its process took; 0 where another comparison did it.
        on_notice: Told once of what the user should know: who is at a trial that is waited for, what was lost.

    Returns:
        The trials' runs, in their order.

    Raises:
        RunError: No process can be begun.
    """
    pool = _Pool(trials, root, jobs, show, tracking, on_begin, on_end, on_notice)
    try:
        pool.run()
    finally:
        pool.stop()
    return [pool.runs[trial_key(trial.recipe)] for trial in trials]


class _Pool:
    """The trials that wait, and those whose processes are running."""

    def __init__(
        self,
        trials: Sequence[Trial],
        root: Path,
        jobs: int,
        show: bool,
        tracking: Tracking,
        on_begin: Callable[[Trial, Run], None],
        on_end: Callable[[Trial, Run, float], None],
        on_notice: Callable[[str], None],
    ) -> None:
        self.root, self.jobs, self.show, self.tracking = root, jobs, show, tracking
        self.on_begin, self.on_end, self.on_notice = on_begin, on_end, on_notice
        self.runs = {trial_key(trial.recipe): trial.run for trial in trials if trial.run is not None}
        self.waiting = [trial for trial in trials if not trial.done]
        self.running: list[Job] = []
        self.away: dict[str, tuple[Trial, Run | None]] = {}  # those that other processes were at when last looked at
        self.said: set[str] = set()
        self.lost: set[str] = set()  # those that were begun again because the server of their process was gone
        self.cells, self.searches = Cells(trials, root), _Searches(trials)
        self.context, self.precisions = process_context(), settle(trials)

    def run(self) -> None:
        """Until all have ended."""
        while self.waiting or self.running:
            self._begin_what_can()
            self._wait()
            self.searches.look(self._underway())
            for job in [job for job in self.running if job.ended()]:
                self._end(job)

    def stop(self) -> None:
        """Cancel what is running (SIGTERM takes the way of Ctrl-C there), and wait for it."""
        for job in self.running:
            job.terminate()
        for job in self.running:
            job.join()
            if job.run.status()["state"] == "running":
                self._mark(job.run, "cancelled")
        self.cells.free_all()

    def _begin_what_can(self) -> None:
        """In their order, those whose needs have ended, well or not, and whose search and trial nobody else is at."""
        self.away.clear()
        for trial in list(self.waiting):
            if len(self.running) == self.jobs:
                return
            unfinished = {trial_key(each.recipe) for each in (*self.waiting, *(job.trial for job in self.running))}
            ready = unfinished.isdisjoint(map(trial_key, trial.needs))
            if ready and not self.searches.underway(trial, self._underway()):
                self._try(trial)

    def _underway(self) -> list[tuple[Trial, Run | None]]:
        return [*((job.trial, job.run) for job in self.running), *self.away.values()]

    def _try(self, trial: Trial) -> None:
        """Begin a trial, or take what others have made of it; while somebody is at it, it goes on waiting."""
        key = trial_key(trial.recipe)
        if not self.cells.take(trial):
            self._put_off(trial, self.cells.holder(trial))
            return
        run = self.cells.run_of(trial) or Run.create(self.root, trial.recipe, TUNING if trial.tuning else "")
        self.runs[key] = run
        begun = False
        try:
            if run.stage_state("eval") != "success" and not self.cells.failed_elsewhere(trial, run):
                with run.hold(0.0):
                    begun = self._prepare(trial, run)
        except HeldError as error:
            self.cells.free(trial)
            self._put_off(trial, error.holder)
            return
        self.waiting.remove(trial)
        if begun:
            self.running.append(self._start(trial, run))
            self.on_begin(trial, run)
        else:
            self.cells.free(trial)
            self.on_end(trial, run, 0.0)

    def _put_off(self, trial: Trial, holder: Holder | None) -> None:
        self.away[trial_key(trial.recipe)] = trial, self.cells.run_of(trial)
        self._notice(f"{trial.name}: {holder or 'another process'} is at it, and is waited for")

    def _prepare(self, trial: Trial, run: Run) -> bool:
        """Note what a trial builds on; False (which is noted, too) if that did not succeed."""
        for needed in trial.needs:
            if self.runs[trial_key(needed)].stage_state("eval") != "success":
                run.mark("failed", error=f"it builds on {label(needed.method)}, which did not succeed")
                return False
        run.recipe = trial.recipe  # where the data lies may have changed
        run.mark("running")
        for needed in trial.needs:
            run.add_base_run(label(needed.method), self.runs[trial_key(needed)])
        self.searches.offer(trial, run)
        return True

    def _start(self, trial: Trial, run: Run) -> Job:
        threads = max(1, (os.cpu_count() or 1) // self.jobs) if self.jobs > 1 else None
        precision = settled(trial.recipe, self.precisions)
        given = (str(run.path), trial.recipe, precision, threads, self.show, self.tracking)
        for last in (False, True):
            process = self.context.Process(target=work, args=given, daemon=False)
            try:
                start(process)
                break
            except (OSError, EOFError) as error:  # the server ended just now: the next start begins another
                if last:
                    raise RunError(
                        f"{trial.name}: no process can be begun for it: {error or type(error).__name__}; make room "
                        "(memory, processes, open files), and give the same command again"
                    ) from error
        return Job(trial, run, process, time.monotonic(), self.context.get_start_method() == "forkserver")

    def _wait(self) -> None:
        """For the end of a process; where others are waited for, too, or there is none, not for long."""
        for job in self.running:
            job.look()
        sentinels = [job.process.sentinel for job in self.running if not job.lost]
        idle = len(self.running) < self.jobs and bool(self.waiting)
        look = bool(self.away) or idle or len(sentinels) < len(self.running)
        if sentinels:
            wait(sentinels, LOOK_EVERY if look else LOOK_AT_MEMORY)
        elif self.running or self.away:
            time.sleep(LOOK_EVERY)

    def _end(self, job: Job) -> None:
        """Note what came of a process that has ended: what its run says of itself, if it came to say something."""
        self.running.remove(job)
        key, code, state = trial_key(job.trial.recipe), job.process.exitcode, job.run.status()["state"]
        if job.run.stage_state("eval") == "success":
            if code != 0:  # it ended after its work and before its tidying
                remove_checkpoints(job.run)
        elif code == BUSY or (job.lost and key not in self.lost and state == "running"):
            if job.lost:
                self.lost.add(key)
                self._notice(SERVER_LOST)
            self.cells.free(job.trial)
            self.waiting.insert(0, job.trial)
            return
        elif job.lost and state == "running":
            self._mark(job.run, "cancelled", error="the server of its process ended again, and its process with it")
        elif state == "running":
            self._mark(job.run, "failed", error=f"its process ended with {how_it_ended(code, job.peak)}")
        self.cells.free(job.trial)
        self.on_end(job.trial, job.run, time.monotonic() - job.begun)

    def _mark(self, run: Run, state: str, **values: object) -> None:
        """What the run's own process could not say any more; not if somebody else goes on with it already."""
        with suppress(HeldError), run.hold(0.0):
            run.mark(state, **values)

    def _notice(self, text: str) -> None:
        if text not in self.said:
            self.said.add(text)
            self.on_notice(text)
