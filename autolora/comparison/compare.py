"""A whole comparison: what is not there yet is run, and the tables are written.

found = compare([recipe], parse_methods("autolora,lora:4"), [0, 1, 2], Path("runs"))
found.rows("differences")
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from autolora.comparison.asked import Asked
from autolora.comparison.choices import fell_out
from autolora.comparison.execute import execute
from autolora.comparison.executor import Executor, Resources
from autolora.comparison.outcome import Captioned, outcome, write_outcome
from autolora.comparison.plan import Trial
from autolora.comparison.planned import Planned
from autolora.comparison.processes import Processes
from autolora.comparison.same_base import OneBase, check_bases
from autolora.comparison.scheduled import run_one
from autolora.comparison.sweep import Leg, arms_of
from autolora.recipe.schema import MethodSettings, Recipe
from autolora.recipe.tuning import Rates
from autolora.runs.folders import COMPARISONS
from autolora.runs.results import Result, read_result
from autolora.runs.store import Run
from autolora.tables import Row
from autolora.trackers.follow import Tracking, following
from autolora.trackers.follower import FOLDER, Group

LONGEST, SHORTENED = 200, 80  # characters of a folder's name; those that are kept of one that is longer


@dataclass(frozen=True)
class Comparison:
    """What a comparison came to.

    Args:
        results: Of every recipe, method and seed that was asked for, in that order.
        tables: See `autolora.comparison.outcome`.
        folder: Where the tables are.
        files: Those that were written.
        lacking: Of the trials by which rates or settings are chosen, those that failed, and not by diverging.
    """

    results: tuple[Result, ...]
    tables: tuple[Captioned, ...]
    folder: Path
    files: tuple[Path, ...]
    lacking: tuple[Result, ...] = ()

    @property
    def failed(self) -> int:
        """How many of the results are no success, and how many of the trials that choose."""
        return sum(result.state != "success" for result in self.results) + len(self.lacking)

    def rows(self, stem: str) -> list[Row]:
        """The rows of a table by its name: scores, differences, costs, by_task, tuning, recovery, published, failures.

        Raises:
            KeyError: There is no such table here.
        """
        return [*{table.stem: table.rows for table in self.tables}[stem]]


def compare(
    recipes: Sequence[Recipe],
    methods: Sequence[MethodSettings],
    seeds: Sequence[int],
    root: Path,
    *,
    baseline: str | None = None,
    interval: str = "t",
    published: bool = False,
    jobs: int = 1,
    show: bool = False,
    on_begin: Callable[[Trial, Run], None] = lambda trial, run: None,
    on_end: Callable[[Trial, Run, float], None] = lambda trial, run, seconds: None,
    on_notice: Callable[[str], None] = lambda text: None,
    trials: Sequence[Trial] | None = None,
    rates: Rates = (),
    legs: Sequence[Leg] = (),
    select: bool = False,
    track: Sequence[str] = (),
    executor: Executor | None = None,
    trial: str | None = None,
) -> Comparison:
    """Run what is not there yet below `root`, and write the tables.

    Args:
        recipes: What to compare on.
        methods: What to compare.
        seeds: One run of every method for each.
        root: Where runs are.
        baseline: The label of the method that the others are compared with; None for lora-matched, or LoRA.
        interval: "t" or "bootstrap".
        published: Show published figures, too.
        jobs: How many trials run at a time, where no executor is given.
        show: Show the progress of the trials.
        on_begin: Told of every trial that begins.
        on_end: Told of every trial that ends, and the seconds that it took.
        on_notice: Told once of what the user should know, see `autolora.comparison.execute`.
        trials: From `checked_plan` of the same; None to plan here, which scans the runs below `root`.
        rates: Of which one is chosen for each recipe and method, see `autolora.comparison.tune` and
            `autolora.comparison.rate_search`; none to take theirs.
        legs: Of a sweep of these recipes, see `autolora.comparison.sweep`; none where nothing is swept.
        select: Report the point of the sweep alone that is best on a held-out part of the training split.
        track: Names of trackers that follow the trials that are run here.
        executor: What runs them, from `autolora.comparison.engines`; None for processes of this machine. Whoever gives
            it closes it.
        trial: The id of the one trial to run, see `autolora.comparison.scheduled`; then there are no tables.

    Raises:
        UserError: Something can be known to be wrong before anything is run.
    """
    asked = Asked(recipes, methods, seeds, root, rates, tuple(legs), select)
    if trials is None:
        trials = asked.checked_plan(baseline, interval)
    folder = comparison_folder(root, recipes, list(legs[0].point.values) if legs else ())
    tracking = _tracking(root, folder, track)
    for name, place in tracking.places():
        on_notice(f"tracked by {name}: {place}")
    for each in trials:
        if each.done and each.run is not None:  # earlier, and perhaps not tracked then
            with following(each.run, tracking.names, tracking.group):
                pass
    executor = executor or Processes(Resources(jobs=jobs))
    execution = partial(
        execute,
        root=root,
        executor=executor,
        show=show,
        tracking=tracking,
        on_begin=on_begin,
        on_end=on_end,
        on_notice=on_notice,
    )
    run_all = Planned(folder, trials, executor.size).follow(execution)
    if trial is not None:
        return Comparison(tuple(run_one(asked, trials, trial, run_all)), (), folder, ())
    tried: list[Result] = []
    known = OneBase()

    def noting(part: Sequence[Trial]) -> list[Run]:
        runs = run_all(part)
        check_bases(zip(part, runs, strict=True), known)
        of_tuning = [run for each, run in zip(part, runs, strict=True) if each.tuning]
        tried.extend(read_result(run) for run in of_tuning if run.stage_state("eval") != "success")
        return runs

    results, choosing = asked.run(trials, noting)
    arms = arms_of(legs, methods) if legs and not select else None
    tables = outcome(results, baseline, interval, published=published, tuning=choosing, arms=arms)
    files = write_outcome(tables, results, folder, published=published, arms=arms)
    return Comparison(tuple(results), tuple(tables), folder, tuple(files), tuple(filter(fell_out, tried)))


def _tracking(root: Path, folder: Path, names: Sequence[str]) -> Tracking:
    """What the trials' trackers write lies beside the tables, in one place for all of them."""
    return Tracking(tuple(names), Group(folder.relative_to(root / COMPARISONS).as_posix(), folder / FOLDER))


def checked_plan(
    recipes: Sequence[Recipe],
    methods: Sequence[MethodSettings],
    seeds: Sequence[int],
    root: Path,
    *,
    baseline: str | None = None,
    interval: str = "t",
    rates: Rates = (),
    legs: Sequence[Leg] = (),
    select: bool = False,
) -> list[Trial]:
    """The trials of a comparison, those of tuning in front.

    Args:
        recipes: What to compare on.
        methods: What to compare.
        seeds: One run of every method for each.
        root: Where runs are.
        baseline: The label of one of the methods, or None.
        interval: "t" or "bootstrap".
        rates: See `compare`.
        legs: See `compare`.
        select: See `compare`.

    Raises:
        UserError: Something can be known to be wrong before anything is run.
    """
    return Asked(recipes, methods, seeds, root, rates, tuple(legs), select).checked_plan(baseline, interval)


def comparison_folder(root: Path, recipes: Sequence[Recipe], fields: Sequence[str] = ()) -> Path:
    """Where the tables go: one place for the same recipes, whatever the methods and seeds, and for no others.

    Args:
        root: Where runs are.
        recipes: What is compared on, in any order.
        fields: What is swept, whatever the values.
    """
    names = sorted(recipe.name for recipe in recipes)
    fronts = {name.rpartition("/")[0] for name in names}
    stem = "+".join(name.rpartition("/")[2] for name in names)  # a plus is in no recipe's name
    by = f"-by-{'-'.join(sorted(fields))}" if fields else ""
    if len(fronts) > 1 or len(stem + by) > LONGEST:
        stem = f"{stem[:SHORTENED]}-{hashlib.sha256(' '.join([*names, by]).encode()).hexdigest()[:8]}"
    by = by if len(stem + by) <= LONGEST else ""
    return root / COMPARISONS / (fronts.pop() if len(fronts) == 1 else "several") / f"{stem}{by}"
