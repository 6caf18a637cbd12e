"""A whole comparison: what is not there yet is run, and the tables are written.

found = compare([recipe], parse_methods("autolora,lora:4"), [0, 1, 2], Path("runs"))
found.rows("differences")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from autolora.comparison.choices import tuning_table
from autolora.comparison.execute import execute
from autolora.comparison.outcome import Captioned, outcome, write_outcome
from autolora.comparison.plan import Trial, check_plan, plan, trial_key
from autolora.comparison.planned import Planned
from autolora.comparison.statistics import check_interval
from autolora.comparison.tune import check_tuning, choose, reported_results, reported_trials, tuning_trials
from autolora.errors import UserError
from autolora.recipe.method import label
from autolora.recipe.schema import MethodSettings, Recipe
from autolora.runs.results import Result, read_result
from autolora.runs.store import Run
from autolora.tables import Row
from autolora.trackers.follow import FOLDER, Group, Tracking, following


@dataclass(frozen=True)
class Comparison:
    """What a comparison came to.

    Args:
        results: Of every recipe, method and seed that was asked for, in that order.
        tables: See `autolora.comparison.outcome`.
        folder: Where the tables are.
        files: Those that were written.
    """

    results: tuple[Result, ...]
    tables: tuple[Captioned, ...]
    folder: Path
    files: tuple[Path, ...]

    @property
    def failed(self) -> int:
        """How many of the results are no success."""
        return sum(result.state != "success" for result in self.results)

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
    rates: Sequence[float] = (),
    track: Sequence[str] = (),
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
        jobs: How many trials run at a time.
        show: Show the progress of the trials.
        on_begin: Told of every trial that begins.
        on_end: Told of every trial that ends, and the seconds that it took.
        on_notice: Told once of what the user should know, see `autolora.comparison.execute`.
        trials: From `checked_plan` of the same; None to plan here, which scans the runs below `root`.
        rates: Of which one is chosen for each recipe and method, see `autolora.comparison.tune`; none to take theirs.
        track: Names of trackers that follow the trials that are run here.

    Raises:
        UserError: Something can be known to be wrong before anything is run.
    """
    if trials is None:
        trials = checked_plan(recipes, methods, seeds, root, baseline=baseline, interval=interval, rates=rates)
    tracking = _tracking(root, recipes, track)
    for name, place in tracking.places():
        on_notice(f"tracked by {name}: {place}")
    for trial in trials:
        if trial.done and trial.run is not None:  # earlier, and perhaps not tracked then
            with following(trial.run, tracking.names, tracking.group):
                pass
    execution = partial(
        execute,
        root=root,
        jobs=jobs,
        show=show,
        tracking=tracking,
        on_begin=on_begin,
        on_end=on_end,
        on_notice=on_notice,
    )
    run_all = Planned(comparison_folder(root, recipes), trials, jobs).follow(execution)
    if not rates:
        runs = run_all(trials)
        found = [read_result(run) for trial, run in zip(trials, runs, strict=True) if trial.wanted]
        results, tuning = _in_order(found, recipes, methods), None
    else:
        trying = [trial for trial in trials if trial.tuning]
        tried = run_all(trying)
        chosen = choose(recipes, methods, rates, trying, tried)
        trials = [trial for trial in trials if not trial.tuning]
        if any(trial.undecided for trial in trials):
            trials = reported_trials(recipes, methods, seeds, root, chosen, rates)
        runs = run_all(trials)
        by_key = {trial_key(trial.recipe): run for trial, run in zip(trials, runs, strict=True)}
        results = reported_results(recipes, methods, seeds, chosen, by_key)
        tuning = tuning_table(chosen.rows())
    tables = outcome(results, baseline, interval, published=published, tuning=tuning)
    folder = comparison_folder(root, recipes)
    files = write_outcome(tables, results, folder, published=published)
    return Comparison(tuple(results), tuple(tables), folder, tuple(files))


def _tracking(root: Path, recipes: Sequence[Recipe], names: Sequence[str]) -> Tracking:
    """What the trials' trackers write lies beside the tables, in one place for all of them."""
    folder = comparison_folder(root, recipes)
    return Tracking(tuple(names), Group(folder.relative_to(root / "comparisons").as_posix(), folder / FOLDER))


def checked_plan(
    recipes: Sequence[Recipe],
    methods: Sequence[MethodSettings],
    seeds: Sequence[int],
    root: Path,
    *,
    baseline: str | None = None,
    interval: str = "t",
    rates: Sequence[float] = (),
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

    Raises:
        UserError: Something can be known to be wrong before anything is run.
    """
    words = [label(method) for method in methods]
    if baseline is not None and baseline not in words:
        raise UserError(f"--baseline: {baseline!r} is not one of the methods compared: {', '.join(words)}")
    check_interval(interval)
    check_plan(recipes, methods)
    if not rates:
        return plan(recipes, methods, seeds, root)
    check_tuning(recipes, methods)
    trying = tuning_trials(recipes, methods, seeds, rates, root)
    known = choose(recipes, methods, rates, trying, [trial.run if trial.done else None for trial in trying])
    return [*trying, *reported_trials(recipes, methods, seeds, root, known, rates)]


def comparison_folder(root: Path, recipes: Sequence[Recipe]) -> Path:
    """Where the tables go: one place for the same recipes, whatever the methods and seeds.

    Args:
        root: Where runs are.
        recipes: What is compared on, in any order.
    """
    names = sorted(recipe.name for recipe in recipes)
    if len(names) == 1:
        return root / "comparisons" / names[0]
    folders = {name.rpartition("/")[0] for name in names}
    ends = "-".join(name.rpartition("/")[2] for name in names)
    front = folders.pop() if len(folders) == 1 else "several"
    return root / "comparisons" / re.sub(r"^/", "", f"{front}/{ends}")


def _in_order(results: list[Result], recipes: Sequence[Recipe], methods: Sequence[MethodSettings]) -> list[Result]:
    """By recipe, method and seed, as they were asked for."""
    names, words = [recipe.name for recipe in recipes], [label(method) for method in methods]
    return sorted(results, key=lambda r: (names.index(r.recipe), words.index(r.method), r.seed))
