"""A learning rate for each method from a range, by optuna's TPE sampler: ``search_rates(legs, …)``.

As `autolora.comparison.tune` it scores on a held-out part of the training split, with a seed that is not reported; but
each rate is proposed from the scores of those before it. A study is a function of the recipe's seed and of the scores
alone, and is kept nowhere: it is told again what the kept runs came to, and so proposes what it proposed before. A
search that was killed goes on to the same rates, and one that is whole runs nothing. No trial is cut short (pruned):
what is left of one would depend on the others that ran beside it.

Rates are rounded to three digits. A trial without a score, one that diverged for instance, is told as the worst.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolora.comparison.choices import Choice, Tuning
from autolora.comparison.groups import has_score
from autolora.comparison.keys import trial_key
from autolora.comparison.plan import Trial, trials_of
from autolora.comparison.sweep import Leg
from autolora.comparison.tune import at_rate, held_out, tuned, tuning_seed
from autolora.errors import UserError
from autolora.recipe.method import label
from autolora.recipe.schema import MethodSettings, Recipe
from autolora.recipe.tuning import RateRange
from autolora.runs.results import Result, read_result
from autolora.runs.store import Run
from autolora.training.seeds import derive

if TYPE_CHECKING:
    from optuna import Study

INSTALL = "a range of rates is searched by optuna, which is not installed: pip install 'autolora[optuna]'"


@dataclass
class _Search:
    """Of one recipe (of a leg) and method.

    Args:
        leg: The number of the leg.
        recipe: With the rows held out, and the seed of tuning.
        name: The recipe's name, and the method.
        study: See `_study`.
        results: By rate, in the order in which they were tried.
        told: How many trials there have been; more than there are results, where a rate came twice.
    """

    leg: int
    recipe: Recipe
    name: tuple[str, MethodSettings]
    study: Study
    results: dict[float, Result] = field(default_factory=dict)
    told: int = 0
    asked: Any = None

    def ask(self, rates: RateRange) -> Recipe:
        """The recipe at the next rate."""
        if self.asked is None:
            self.asked = self.study.ask()
        self.rate = float(f"{self.asked.suggest_float('learning_rate', rates.low, rates.high, log=rates.log):.3g}")
        return at_rate(self.recipe, self.name[1], self.rate)

    def tell(self, result: Result) -> None:
        """What it came to."""
        self.results.setdefault(self.rate, result)
        gain = -math.inf
        if has_score(result) and result.score is not None:
            gain = result.score if result.higher_is_better else -result.score
        self.study.tell(self.asked, gain)
        self.told, self.asked = self.told + 1, None


def check_optuna() -> None:
    """Make sure that rates can be searched.

    Raises:
        UserError: optuna is not there.
    """
    if importlib.util.find_spec("optuna") is None:
        raise UserError(f"--tune: {INSTALL}")


def search_rates(
    legs: Sequence[Leg],
    methods: Sequence[MethodSettings],
    seeds: Collection[int],
    rates: RateRange,
    root: Path,
    run_all: Callable[[Sequence[Trial]], list[Run]],
) -> list[Tuning]:
    """Search a rate for each recipe and method, one trial of each at a time.

    Args:
        legs: Of a sweep, or one.
        methods: What is compared; those with a rate are left out.
        seeds: Those that are reported.
        rates: The range.
        root: Where runs are.
        run_all: See `autolora.comparison.execute`.

    Returns:
        What was chosen, for each leg.
    """
    searches = _searches(legs, methods, seeds)
    brought: dict[str, Result] = {}
    for _ in range(rates.trials):
        wanted = [search.ask(rates) for search in searches]
        trials = trials_of(wanted, root, tuning=True)
        runs = run_all(trials)
        results = {trial_key(trial.recipe): read_result(run) for trial, run in zip(trials, runs, strict=True)}
        brought |= {key: results[key] for trial in trials if not trial.wanted and (key := trial_key(trial.recipe))}
        for search, recipe in zip(searches, wanted, strict=True):
            search.tell(results[trial_key(recipe)])
    return _tunings(searches, len(legs), rates, brought)


def planned_search(
    legs: Sequence[Leg], methods: Sequence[MethodSettings], seeds: Collection[int], rates: RateRange, root: Path
) -> tuple[list[Trial], list[Tuning]]:
    """The trials of a search, as far as kept runs say which they are, and one to stand for each that is to come.

    Args:
        legs: See `search_rates`, and so is everything else.
        methods: See there.
        seeds: See there.
        rates: See there.
        root: See there.

    Returns:
        The trials, and what is chosen: nothing, where a trial is to come.
    """
    check_optuna()
    searches, found = _searches(legs, methods, seeds), []
    brought: dict[str, Result] = {}
    for search in searches:
        while search.told < rates.trials:
            wanted = search.ask(rates)
            trials = trials_of([wanted], root, tuning=True)
            if not all(trial.done for trial in trials):
                break
            results = {trial_key(each.recipe): read_result(each.run) for each in trials if each.run is not None}
            brought |= {key: results[key] for each in trials if not each.wanted and (key := trial_key(each.recipe))}
            found += trials
            search.tell(results[trial_key(wanted)])
        left = range(search.told, rates.trials)
        if left:
            known = {trial_key(trial.recipe) for trial in found}
            found += [trial for trial in trials if trial_key(trial.recipe) not in known]
            found += [replace(trials[-1], run=None, point=f"trial {n + 1} of {rates.trials}") for n in left[1:]]
    whole = all(search.told == rates.trials for search in searches)
    unknown = [Tuning({}) for _ in legs]
    return found, _tunings(searches, len(legs), rates, brought) if whole else unknown


def _tunings(searches: Sequence[_Search], legs: int, rates: RateRange, brought: dict[str, Result]) -> list[Tuning]:
    found = []
    for leg in range(legs):
        mine = [search for search in searches if search.leg == leg]
        choices = {search.name: Choice(*search.name, search.results, rates) for search in mine}
        found.append(Tuning(choices, tuple(brought.values()) if leg == 0 else ()))
    return found


def _searches(legs: Sequence[Leg], methods: Sequence[MethodSettings], seeds: Collection[int]) -> list[_Search]:
    seed = tuning_seed(seeds)
    return [
        _Search(place, held_out(recipe, seed), (recipe.name, method), _study(recipe, method))
        for place, leg in enumerate(legs)
        for recipe in leg.recipes
        for method in tuned(methods)
    ]


def _study(recipe: Recipe, method: MethodSettings) -> Study:
    """A new one, whose random numbers are the recipe's and the method's own."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed = derive(recipe.seed, "tune", recipe.name, label(method)) % 2**32
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
