"""A comparison's plan for schedulers: which trials there are, what each needs first, and one trial of it alone.

    schedule(asked, trials)          # an `Entry` for each trial that can be run by itself
    run_one(asked, trials, "3fa9c1", run_all)

A trial's id says the same in every plan of the same comparison: also before its learning rate, or its point of a sweep,
is chosen by other trials of it. Whoever runs one trial does what it builds on, too, as far as nobody else has or is at
it; so they may be run in any order, and at the same time. The order of the stages only keeps them from waiting.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autolora.comparison.asked import Asked, RunAll
from autolora.comparison.cells import Cells
from autolora.comparison.keys import trial_key
from autolora.comparison.plan import Trial, with_needs
from autolora.comparison.tune import tuned
from autolora.errors import UserError
from autolora.recipe.method import label
from autolora.recipe.schema import MethodSettings, Recipe
from autolora.recipe.tuning import RateRange
from autolora.runs.results import Result, read_result


@dataclass(frozen=True)
class Entry:
    """A trial that can be run by itself.

    Args:
        id: Twelve hexadecimal digits.
        trial: Of the plan.
        stage: Those of earlier stages make what it builds on, or takes over; from 0.
        needs: The ids of the trials that it builds on, takes a search over from, or is chosen by.
    """

    id: str
    trial: Trial
    stage: int
    needs: tuple[str, ...]


def schedule(asked: Asked, trials: Sequence[Trial]) -> list[Entry]:
    """The trials by stage; those of a search of rates that is yet to propose them are part of those that are reported.

    Args:
        asked: The comparison.
        trials: Its plan.
    """
    found: dict[str, Entry] = {}
    makers: dict[str, str] = {}  # who makes a search first, by its key
    for trial in trials:
        if (key := _id(asked, trial)) is None or key in found:
            continue
        needs = {} if _chosen(asked, trial) else dict.fromkeys(_digest(trial_key(each)) for each in trial.needs)
        if _chosen(asked, trial):
            needs = {each.id: None for each in found.values() if _chooses(each.trial, trial)}
        for shared in filter(None, (trial.search_key, _rates_key(asked, trial))):
            if (maker := makers.setdefault(shared, key)) != key:
                needs[maker] = None
        known = [each for each in needs if each in found]
        stage = max((found[each].stage + 1 for each in known), default=0)
        found[key] = Entry(key, trial, stage, tuple(known))
    return sorted(found.values(), key=lambda entry: entry.stage)


def run_one(asked: Asked, trials: Sequence[Trial], wanted: str, run_all: RunAll) -> list[Result]:
    """Run one trial of a comparison, and what it builds on.

    Args:
        asked: The comparison.
        trials: Its plan.
        wanted: The trial's id.
        run_all: See `autolora.comparison.execute`.

    Returns:
        What it came to.

    Raises:
        UserError: There is no such trial.
    """
    trial = next((each for each in trials if _id(asked, each) == wanted), None)
    if trial is None:
        raise UserError(
            f"--trial {wanted}: this comparison has no such trial; --dry-run --format json lists them; the recipes, "
            "methods, seeds and settings have to be those that it was planned with"
        )
    if _chosen(asked, trial):
        one = _narrowed(asked, trial)
        return one.run(one.checked_plan(None, "t"), run_all)[0]
    keys = {trial_key(each) for each in (*with_needs(trial.recipe), *_at_its_search(asked, trials, trial))}
    mine = [each for each in trials if trial_key(each.recipe) in keys]
    return [read_result(run_all(mine)[mine.index(trial)])]


def _at_its_search(asked: Asked, trials: Sequence[Trial], trial: Trial) -> list[Recipe]:
    """Of trials that others are at and that make the same search, which is waited for and taken over."""
    if trial.search_key is None or trial.source is not None:
        return []
    cells = Cells(trials, asked.root)
    same = (each for each in trials if each.search_key == trial.search_key and each is not trial and not each.done)
    return [each.recipe for each in same if cells.holder(each) is not None]


def _id(asked: Asked, trial: Trial) -> str | None:
    """None of a trial that cannot be named yet, which is built on by one that is."""
    if _chosen(asked, trial):
        point = "" if asked.select else trial.point
        said = ["chosen", trial.recipe.name, label(_plain(trial.recipe.method)), trial.recipe.seed, point]
        return _digest(json.dumps(said))
    return None if trial.undecided else _digest(trial_key(trial.recipe))


def _chosen(asked: Asked, trial: Trial) -> bool:
    """Whether other trials choose its learning rate, or its point."""
    if trial.tuning or not trial.wanted:
        return False
    method = trial.recipe.method
    return asked.select or (
        bool(asked.rates) and method not in asked.methods and _plain(method) in tuned(asked.methods)
    )


def _chooses(one: Trial, other: Trial) -> bool:
    same = one.recipe.name == other.recipe.name and _plain(one.recipe.method) == _plain(other.recipe.method)
    return one.tuning and same


def _rates_key(asked: Asked, trial: Trial) -> str | None:
    """What trials have in common whose rate one search finds."""
    if not (isinstance(asked.rates, RateRange) and _chosen(asked, trial)):
        return None
    return f"rates of {trial.recipe.name} {label(_plain(trial.recipe.method))} {trial.point}"


def _narrowed(asked: Asked, trial: Trial) -> Asked:
    """The comparison of this trial alone, with all that its choice is made from."""
    name, method = trial.recipe.name, trial.recipe.method
    legs = [leg for leg in asked.swept if asked.select or leg.point.label == trial.point]
    return replace(
        asked,
        recipes=[recipe for recipe in asked.recipes if recipe.name == name],
        methods=[method if method in asked.methods else _plain(method)],
        seeds=[trial.recipe.seed],
        swept=tuple(replace(leg, recipes=tuple(each for each in leg.recipes if each.name == name)) for leg in legs),
    )


def _plain(method: MethodSettings) -> MethodSettings:
    return method.model_copy(update={"learning_rate": None})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
