"""A learning rate for each method, from a small grid: ``tuning_trials(…)``, their runs, then ``choose(…)``.

Every method needs a rate of its own, and one that is given to all favours whoever it suits. A trial of tuning is the
recipe with a method at one rate of the grid, trained on nine tenths of the training split and scored on the tenth that
is held out (`autolora.data.held_out`), with a seed that is not reported: the evaluation splits have no part in it. The
rate of the best primary metric is chosen, the smaller of equals; a trial without a score, one that diverged for
instance, is worse than all others. It is `method.learning_rate` of the trials that are reported.

The seed is the highest that a recipe may have, 4294967295, or the next lower one that is not reported. So seeds that
are added to a comparison leave its rates as they are, and what was tuned is not tuned again.

Methods that have a rate in their word (``lora:4:learning_rate=1e-3``) keep it. For what methods build on see
`autolora.comparison.plan`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autolora.comparison.choices import SHARE, Choice, Key, Tuning
from autolora.comparison.keys import trial_key
from autolora.comparison.plan import Trial, trials_of, with_needs
from autolora.errors import UserError
from autolora.recipe.data import HELD_OUT
from autolora.recipe.fields import MAX_SEED
from autolora.recipe.method import label, shortest
from autolora.recipe.schema import MethodSettings, Recipe
from autolora.runs.results import Result, read_result
from autolora.runs.store import Run


def tuning_seed(seeds: Collection[int]) -> int:
    """A seed that is none of these.

    Args:
        seeds: Those that are reported.
    """
    return next(seed for seed in range(MAX_SEED, -1, -1) if seed not in seeds)


def tuned(methods: Sequence[MethodSettings]) -> list[MethodSettings]:
    """The methods that have no rate in their word."""
    return [method for method in methods if method.learning_rate is None]


def check_tuning(recipes: Sequence[Recipe], methods: Sequence[MethodSettings]) -> None:
    """Make sure that there is something to tune, and something to tune it on.

    Args:
        recipes: What is compared on.
        methods: What is compared.

    Raises:
        UserError: There is not.
    """
    if not tuned(methods):
        words = ", ".join(map(label, methods))
        raise UserError(f"--tune: every method has a learning rate in its word: {words}; leave --tune out")
    check_rows(recipes, "--tune")


def check_rows(recipes: Sequence[Recipe], option: str) -> None:
    """Make sure that there are rows to choose on.

    Args:
        recipes: What is compared on.
        option: That wants them.

    Raises:
        UserError: There are none.
    """
    for recipe in recipes:
        if recipe.data.splits.held_out is not None:
            raise UserError(
                f"{option}: {recipe.name} holds out a part of its training split already (data.splits.held_out), anew "
                "for each seed, so a choice has no rows of its own; take an evaluation split of its own, or leave "
                f"{option} out"
            )


def tuning_trials(
    recipes: Sequence[Recipe],
    methods: Sequence[MethodSettings],
    seeds: Collection[int],
    rates: Sequence[float],
    root: Path,
) -> list[Trial]:
    """The trials of tuning, and what they build on.

    Args:
        recipes: What is compared on.
        methods: What is compared; those with a rate are left out.
        seeds: Those that are reported.
        rates: The grid.
        root: Where runs are.
    """
    seed = tuning_seed(seeds)
    wanted = [
        at_rate(held_out(recipe, seed), method, rate)
        for recipe in recipes
        for method in tuned(methods)
        for rate in rates
    ]
    return trials_of(wanted, root, tuning=True)


def choose(
    recipes: Sequence[Recipe],
    methods: Sequence[MethodSettings],
    rates: Sequence[float],
    trials: Sequence[Trial],
    runs: Sequence[Run | None],
) -> Tuning:
    """The choices that can be made: of recipes and methods whose runs have all ended, well or not.

    Args:
        recipes: What is compared on.
        methods: What is compared.
        rates: The grid.
        trials: From `tuning_trials` of the same.
        runs: Of each trial; None where it has none, or where it is to be gone on with.
    """
    results = {
        trial_key(trial.recipe): read_result(run) for trial, run in zip(trials, runs, strict=True) if run is not None
    }
    found: dict[Key, Choice] = {}
    for recipe in recipes:
        seeds = {trial.recipe.seed for trial in trials if trial.recipe.name == recipe.name}
        for method in tuned(methods):
            keys = {rate: trial_key(at_rate(held_out(recipe, *seeds), method, rate)) for rate in rates}
            by_rate = {rate: results[key] for rate, key in keys.items() if key in results}
            if len(by_rate) == len(rates):
                found[recipe.name, method] = Choice(recipe.name, method, by_rate)
    brought = [trial.recipe for trial in trials if not trial.wanted]
    return Tuning(found, tuple(results[key] for key in map(trial_key, brought) if key in results))


def reported_trials(
    recipes: Sequence[Recipe],
    methods: Sequence[MethodSettings],
    seeds: Sequence[int],
    root: Path,
    tuning: Tuning,
    rates: Sequence[float],
) -> list[Trial]:
    """The trials that are reported, seed by seed; those whose rate has yet to be chosen stand there without a run.

    Args:
        recipes: What is compared on.
        methods: What is compared.
        seeds: Those that are reported.
        root: Where runs are.
        tuning: What is chosen so far. A method none of whose rates has a score has no trials.
        rates: The grid, whose smallest stands for a rate that has yet to be chosen.
    """
    settled: list[Recipe] = []
    open_: list[Recipe] = []
    wanted: list[Recipe] = []
    for seed in seeds:
        for recipe in recipes:
            for method in methods:
                seeded = recipe.model_copy(update={"seed": seed})
                try:
                    chosen = tuning.method(recipe, method)
                except KeyError:
                    open_.append(at_rate(seeded, method, rates[0]))
                    wanted.append(open_[-1])
                    continue
                if chosen is not None:
                    settled.append(seeded.model_copy(update={"method": chosen}))
                    wanted.append(settled[-1])
    known = {trial_key(each) for recipe in settled for each in with_needs(recipe)}
    at_rates = (each for recipe in open_ for each in with_needs(recipe) if each.method.learning_rate is not None)
    unknown = {trial_key(each) for each in at_rates} - known
    return [
        replace(trial, run=None, undecided=True) if trial_key(trial.recipe) in unknown else trial
        for trial in trials_of(wanted, root)
    ]


def reported_results(
    recipes: Sequence[Recipe],
    methods: Sequence[MethodSettings],
    seeds: Sequence[int],
    tuning: Tuning,
    runs: Mapping[str, Run],
) -> list[Result]:
    """By recipe, method and seed, under the methods' words as they were asked for, whatever rate was chosen.

    Args:
        recipes: What is compared on.
        methods: What is compared.
        seeds: Those that are reported.
        tuning: What was chosen.
        runs: By the trials' keys.
    """
    results = []
    for recipe in recipes:
        for method in methods:
            chosen, word = tuning.method(recipe, method), label(method)
            for seed in seeds:
                if chosen is None:
                    results.append(Result(recipe.name, word, seed, "missing", reason=_refused(tuning, recipe, method)))
                    continue
                run = runs[trial_key(recipe.model_copy(update={"method": chosen, "seed": seed}))]
                results.append(replace(read_result(run), method=word))
    return results


def held_out(recipe: Recipe, seed: int) -> Recipe:
    """Trained on a part of its training split, scored on the rest of it.

    Args:
        recipe: What is compared on.
        seed: From `tuning_seed`.
    """
    splits = recipe.data.splits.model_copy(update={"eval": (HELD_OUT,), "held_out": SHARE})
    data = recipe.data.model_copy(update={"splits": splits})
    return recipe.model_copy(update={"data": data, "seed": seed})


def at_rate(recipe: Recipe, method: MethodSettings, rate: float) -> Recipe:
    """The recipe with a method at a learning rate.

    Args:
        recipe: What is compared on.
        method: Without a rate.
        rate: Of the retraining.
    """
    return recipe.model_copy(update={"method": method.model_copy(update={"learning_rate": rate})})


def _refused(tuning: Tuning, recipe: Recipe, method: MethodSettings) -> str:
    results = tuning.choices[recipe.name, method].results
    why = next((f": {result.reason}" for result in results.values() if result.reason), "")
    searched = tuning.choices[recipe.name, method].searched
    of = "the grid" if searched is None else f"the range {searched.label}"
    return f"no learning rate of {of} ({', '.join(map(shortest, results))}) gave it a score{why}"
