"""Run the trials of a comparison, each in a process of its own: ``execute(trials, root, executor)``.

A trial that fails, however it fails, leaves its reason in its run's status.json, and the others go on. A process has
its own peak of memory, its own state of the device, and ends when the comparison ends, however that ends. Trials are
resumed where they were interrupted; a trial whose needs have failed is not begun. A trial whose search another one is
at waits for that search, and takes it over; where it fails, the next one searches itself. A trial that another
process is at, such as another comparison in the same folder, is waited for, and taken as it then is.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from autolora.comparison.cells import Cells
from autolora.comparison.executor import Executor, Job, Task
from autolora.comparison.keys import trial_key
from autolora.comparison.plan import Trial
from autolora.comparison.precision import settle, settled
from autolora.comparison.processes import Processes
from autolora.comparison.worker import remove_checkpoints
from autolora.methods.sharing import has_search, offer
from autolora.recipe.method import label
from autolora.runs.folders import TUNING
from autolora.runs.lock import LOOK_EVERY, HeldError, Holder
from autolora.runs.store import Run
from autolora.trackers.follow import UNTRACKED, Tracking

LOOK_AT_MEMORY = 1.0  # seconds between two looks at what runs, which a process's memory is seen by
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
    executor: Executor | None = None,
    *,
    show: bool = False,
    tracking: Tracking = UNTRACKED,
    on_begin: Callable[[Trial, Run], None] = lambda trial, run: None,
    on_end: Callable[[Trial, Run, float], None] = lambda trial, run, seconds: None,
    on_notice: Callable[[str], None] = lambda text: None,
) -> list[Run]:
    """Run all trials that are not done, as many at a time as there is room for.

    Args:
        trials: From `autolora.comparison.plan.plan`, what is built on in front.
        root: Where new runs go.
        executor: What runs them; None for a process of this machine, one at a time. It is closed by whoever made it.
        show: Show their progress.
        tracking: What follows them.
        on_begin: Told of every trial that begins.
        on_end: Told of every trial that ends, and the seconds that its process took; 0 where another comparison did it.
        on_notice: Told once of what the user should know: who is at a trial that is waited for, what was lost.

    Returns:
        The trials' runs, in their order.

    Raises:
        RunError: No process can be begun.
        UserError: The machines of a cluster differ.
    """
    pool = _Pool(trials, root, executor or Processes(), show, tracking, on_begin, on_end, on_notice)
    try:
        pool.run()
    finally:
        pool.stop()
    return [pool.runs[trial_key(trial.recipe)] for trial in trials]


class _Pool:
    """The trials that wait, and those that run."""

    def __init__(
        self,
        trials: Sequence[Trial],
        root: Path,
        executor: Executor,
        show: bool,
        tracking: Tracking,
        on_begin: Callable[[Trial, Run], None],
        on_end: Callable[[Trial, Run, float], None],
        on_notice: Callable[[str], None],
    ) -> None:
        executor.check_tracking(tracking)
        self.root, self.executor, self.show, self.tracking = root, executor, show, tracking
        self.on_begin, self.on_end, self.on_notice = on_begin, on_end, on_notice
        self.runs = {trial_key(trial.recipe): trial.run for trial in trials if trial.run is not None}
        self.waiting = [trial for trial in trials if not trial.done]
        self.running: list[Job] = []
        self.away: dict[str, tuple[Trial, Run | None]] = {}  # those that other processes were at when last looked at
        self.said: set[str] = set()
        self.told: set[str] = set()  # recipes whose trials have said what is doubtful about their data
        self.lost: Counter[str] = Counter()  # how often each was begun again because what ran it was gone
        self.cells, self.searches = Cells(trials, root), _Searches(trials)
        self.precisions = settle(trials, executor.precision) if self.waiting else {}

    def run(self) -> None:
        """Until all have ended."""
        while self.waiting or self.running:
            self._begin_what_can()
            self._wait()
            self.searches.look(self._underway())
            for job in [*self.running]:
                self._end_if_it_has(job)

    def stop(self) -> None:
        """Cancel what is running, and wait for it."""
        for job in self.running:
            job.cancel()
        for job in self.running:
            job.join()
            if job.run.status()["state"] == "running":
                self._mark(job.run, "cancelled")
        self.cells.free_all()

    def _begin_what_can(self) -> None:
        """In their order, those whose needs have ended, well or not, and whose search and trial nobody else is at."""
        self.away.clear()
        for trial in list(self.waiting):
            if len(self.running) >= self.executor.size:
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
            self._put_off(trial, error.holder, error.remedy)
            return
        self.waiting.remove(trial)
        if begun:
            precision = settled(trial.recipe, self.precisions)
            told = trial.recipe.name in self.told
            self.running.append(self.executor.start(Task(trial, run, precision, self.show, self.tracking, told)))
            self.told.add(trial.recipe.name)
            self.on_begin(trial, run)
        else:
            self.cells.free(trial)
            self.on_end(trial, run, 0.0)

    def _put_off(self, trial: Trial, holder: Holder | None, remedy: str = "") -> None:
        self.away[trial_key(trial.recipe)] = trial, self.cells.run_of(trial)
        self._notice(f"{trial.name}: {holder or 'another process'} is at it, and is waited for{remedy}")

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

    def _wait(self) -> None:
        """For an end; where others are waited for, too, or there is room, not for long."""
        room = len(self.running) < self.executor.size and bool(self.waiting)
        if self.running or self.away:
            self.executor.wait(self.running, LOOK_EVERY if self.away or room else LOOK_AT_MEMORY)

    def _end_if_it_has(self, job: Job) -> None:
        """Note what came of a trial that has ended: what its run says of itself, if it came to say something."""
        ending = job.ending()
        if ending is None:
            return
        self.running.remove(job)
        key, state = trial_key(job.trial.recipe), job.run.status()["state"]
        again = bool(ending.lost) and state != "failed" and self.lost[key] < self.executor.losses
        if job.run.stage_state("eval") == "success":
            if not ending.clean:  # it ended after its work and before its tidying
                remove_checkpoints(job.run)
        elif ending.busy or again:
            if again:
                self.lost[key] += 1
                self._notice(ending.lost)
            self.cells.free(job.trial)
            self.waiting.insert(0, job.trial)
            return
        elif state == "running":
            self._mark(job.run, "cancelled" if ending.lost else "failed", error=ending.reason)
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
