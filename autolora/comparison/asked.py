"""What a comparison was asked for: its trials (`Asked.checked_plan`), and what came of them (`Asked.run`).

There are three ways: every trial is reported; a learning rate is chosen first for each recipe and method, by a grid or
a search; or a point of a sweep is. Each goes over the legs of a sweep, of which there is one where nothing is swept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autolora.comparison.choices import Tuning, tuning_table
from autolora.comparison.keys import settings_key, trial_key
from autolora.comparison.outcome import OF_A_SWEEP, Captioned, spelt
from autolora.comparison.plan import Trial, check_plan, trials_of
from autolora.comparison.rate_search import planned_search, search_rates
from autolora.comparison.same_base import check_bases
from autolora.comparison.same_rows import check_rows_of
from autolora.comparison.select import select, selected_results, selected_trials, selection_trials
from autolora.comparison.statistics import check_interval
from autolora.comparison.sweep import Leg, check_rates
from autolora.comparison.tune import (
    check_rows,
    check_tuning,
    choose,
    reported_results,
    reported_trials,
    tuning_trials,
)
from autolora.errors import UserError
from autolora.recipe.method import label
from autolora.recipe.schema import MethodSettings, Recipe
from autolora.recipe.tuning import RateRange, Rates
from autolora.runs.results import Result, read_result
from autolora.runs.store import Run

RunAll = Callable[[Sequence[Trial]], list[Run]]
Came = tuple[list[Result], Captioned | None]  # what is reported, and how it was chosen


@dataclass(frozen=True)
class Asked:
    """A comparison; for the arguments see `autolora.comparison.compare.compare`."""

    recipes: Sequence[Recipe]
    methods: Sequence[MethodSettings]
    seeds: Sequence[int]
    root: Path
    rates: Rates = ()
    swept: tuple[Leg, ...] = ()
    select: bool = False

    @property
    def legs(self) -> tuple[Leg, ...]:
        """Of the sweep, or one of the recipes as they are."""
        return self.swept or (Leg(tuple(self.recipes)),)

    def checked_plan(self, baseline: str | None, interval: str) -> list[Trial]:
        """The trials, those that choose in front.

        Args:
            baseline: The label of one of the methods, or None.
            interval: "t" or "bootstrap".

        Raises:
            UserError: Something can be known to be wrong before anything is run.
        """
        self._check(baseline, interval)
        trials = self._planned()
        check_rows_of(trials)
        check_bases((trial, trial.run) for trial in trials if trial.done)
        return trials

    def _planned(self) -> list[Trial]:
        if self.select:
            trying = selection_trials(self.legs, self.methods, self.seeds, self.root)
            known = select(self.legs, self.methods, self.seeds, trying, _ended(trying))
            return [*trying, *selected_trials(self.legs, self.methods, self.seeds, self.root, known)]
        if not self.rates:
            return self._pointed(self._plain())
        if isinstance(self.rates, RateRange):
            trying, tunings = planned_search(self.legs, self.methods, self.seeds, self.rates, self.root)
        else:
            trying = self._trying(self.rates)
            tunings = self._choices(self.rates, trying, _ended(trying))
        return [*self._pointed(trying), *self._reported(tunings)]

    def run(self, trials: Sequence[Trial], run_all: RunAll) -> Came:
        """Run what is not there yet.

        Args:
            trials: From `checked_plan`.
            run_all: See `autolora.comparison.execute`.
        """
        if self.select:
            return self._run_selection(trials, run_all)
        if not self.rates:
            runs = dict(zip((trial_key(trial.recipe) for trial in trials), run_all(trials), strict=True))
            return self._results(runs), None
        trying = [trial for trial in trials if trial.tuning]
        if isinstance(self.rates, RateRange):
            tunings = search_rates(self.legs, self.methods, self.seeds, self.rates, self.root, run_all)
        else:
            tunings = self._choices(self.rates, trying, run_all(trying))
        left = [trial for trial in trials if not trial.tuning]
        if any(trial.undecided for trial in left):
            left = self._reported(tunings)
        runs = dict(zip((trial_key(trial.recipe) for trial in left), run_all(left), strict=True))
        found: list[Result] = []
        for leg, tuning in zip(self.legs, tunings, strict=True):
            of_it = reported_results(leg.recipes, self.methods, self.seeds, tuning, runs)
            found += [replace(each, method=" ".join(filter(None, [each.method, leg.point.label]))) for each in of_it]
        rows = [
            {**({"settings": leg.point.label} if self.swept else {}), **row}
            for leg, tuning in zip(self.legs, tunings, strict=True)
            for row in tuning.rows()
        ]
        return self._in_order(found), tuning_table(rows)

    def _check(self, baseline: str | None, interval: str) -> None:
        words = [label(method) for method in self.methods]
        if baseline is not None and self.swept and not self.select:
            raise UserError(OF_A_SWEEP)
        if baseline is not None and spelt(baseline, words) not in words:
            raise UserError(f"--baseline: {baseline!r} is not one of the methods compared: {', '.join(words)}")
        check_interval(interval)
        faults = [*_plan_faults(self.legs, self.methods)]
        if faults:
            raise UserError("\n".join(faults))
        check_rates(self.swept, self.methods, tuned=bool(self.rates))
        if self.select:
            check_rows(self.recipes, "--select")
        elif self.rates:
            check_tuning(self.recipes, self.methods)

    def _plain(self) -> list[Trial]:
        wanted = [
            recipe.model_copy(update={"method": method, "seed": seed})
            for seed in self.seeds
            for leg in self.legs
            for recipe in leg.recipes
            for method in self.methods
        ]
        return trials_of(wanted, self.root)

    def _trying(self, rates: Sequence[float]) -> list[Trial]:
        recipes = [recipe for leg in self.legs for recipe in leg.recipes]
        return tuning_trials(recipes, self.methods, self.seeds, rates, self.root)

    def _choices(self, rates: Sequence[float], trying: Sequence[Trial], runs: Sequence[Run | None]) -> list[Tuning]:
        found = [choose(leg.recipes, self.methods, rates, trying, runs) for leg in self.legs]
        return [found[0], *(replace(tuning, brought=()) for tuning in found[1:])]  # it is of all legs

    def _reported(self, tunings: Sequence[Tuning]) -> list[Trial]:
        standing = (self.rates.low,) if isinstance(self.rates, RateRange) else self.rates
        trials: list[Trial] = []
        for leg, tuning in zip(self.legs, tunings, strict=True):
            found = reported_trials(leg.recipes, self.methods, self.seeds, self.root, tuning, standing)
            trials += [replace(trial, point=leg.point.label) for trial in found]
        places = {seed: place for place, seed in enumerate(self.seeds)}
        return sorted(trials, key=lambda trial: places[trial.recipe.seed])

    def _pointed(self, trials: Sequence[Trial]) -> list[Trial]:
        """With their points, which messages name."""
        if not self.swept:
            return [*trials]
        points = {_bare(recipe): leg.point.label for leg in self.legs for recipe in leg.recipes}
        return [replace(trial, point=trial.point or points.get(_bare(trial.recipe), "")) for trial in trials]

    def _run_selection(self, trials: Sequence[Trial], run_all: RunAll) -> Came:
        trying = [trial for trial in trials if trial.tuning]
        chosen = select(self.legs, self.methods, self.seeds, trying, run_all(trying))
        left = selected_trials(self.legs, self.methods, self.seeds, self.root, chosen)
        runs = dict(zip((trial_key(trial.recipe) for trial in left), run_all(left), strict=True))
        return selected_results(self.legs, self.methods, self.seeds, chosen, runs), chosen.table()

    def _results(self, runs: dict[str, Run]) -> list[Result]:
        found: list[Result] = []
        for leg in self.legs:
            for recipe in leg.recipes:
                for method in self.methods:
                    for seed in self.seeds:
                        of_it = recipe.model_copy(update={"method": method, "seed": seed})
                        found.append(replace(read_result(runs[trial_key(of_it)]), method=leg.word(method)))
        return self._in_order(found)

    def _in_order(self, results: list[Result]) -> list[Result]:
        """By recipe, method, point and seed, as they were asked for."""
        names = [recipe.name for recipe in self.recipes]
        words = [leg.word(method) for method in self.methods for leg in self.legs]
        return sorted(results, key=lambda r: (names.index(r.recipe), words.index(r.method), r.seed))


def _bare(recipe: Recipe) -> str:
    """What the trials of one point have in common, whatever the method, the seed and the rows that are held out."""
    splits = recipe.data.splits.model_copy(update={"eval": ("",), "held_out": None})
    data = recipe.data.model_copy(update={"splits": splits})
    return settings_key(recipe.model_copy(update={"data": data}))


def _ended(trials: Sequence[Trial]) -> list[Run | None]:
    return [trial.run if trial.done else None for trial in trials]


def _plan_faults(legs: Sequence[Leg], methods: Sequence[MethodSettings]) -> Iterator[str]:
    """What is wrong at every point, once; what is at some, with the first of them."""
    found: dict[str, list[str]] = {}
    for leg in legs:
        try:
            check_plan(leg.recipes, methods)
        except UserError as error:
            for line in str(error).splitlines():
                found.setdefault(line, []).append(leg.point.label)
    for line, points in found.items():
        yield line if len(points) == len(legs) else f"{points[0]}: {line}"
