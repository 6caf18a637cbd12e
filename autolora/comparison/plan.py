"""What a comparison consists of: ``plan(recipes, methods, seeds, root)`` gives its trials, each with its run.

A trial is a recipe with a method and a seed, and a run of its own. A run belongs to a trial if it is one of exactly
that recipe, wherever it came from: what was run alone is not run again. Methods that build on others (`Method.needs`)
bring these along, in front of them. Trials whose searches are the same (`Method.search_key`) do it once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autolora.errors import UserError
from autolora.methods.base import method_class
from autolora.methods.sharing import has_search
from autolora.recipe.method import label
from autolora.recipe.schema import MethodSettings, Recipe
from autolora.runs.store import Run, runs


@dataclass(frozen=True)
class Trial:
    """One recipe, method and seed.

    Args:
        recipe: With method and seed in it.
        wanted: Whether it was asked for; others are only built on.
        run: The run that it has, finished or not; None where there is none yet.
        searched: Another run that has made the search that this trial shares; None where none is known.
    """

    recipe: Recipe
    wanted: bool
    run: Run | None
    searched: Run | None = None

    @property
    def method(self) -> str:
        """The method's label: ``lora:4``."""
        return label(self.recipe.method)

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.recipe.name} {self.method} seed {self.recipe.seed}"

    @property
    def done(self) -> bool:
        """Whether its run has been evaluated."""
        return self.run is not None and self.run.stage_state("eval") == "success"

    @property
    def needs(self) -> tuple[Recipe, ...]:
        """The recipes of the trials that it builds on."""
        methods = method_class(self.recipe.method.name).needs(self.recipe)
        return tuple(self.recipe.model_copy(update={"method": method}) for method in methods)

    @property
    def search_key(self) -> str | None:
        """See `search_key`."""
        return search_key(self.recipe)

    @property
    def source(self) -> Run | None:
        """A run that has made the trial's search, its own or another; None where there is none yet."""
        return self.run if self.run is not None and has_search(self.run) else self.searched


def plan(recipes: Sequence[Recipe], methods: Sequence[MethodSettings], seeds: Sequence[int], root: Path) -> list[Trial]:
    """All trials, seed by seed, so that a comparison cut short has whole seeds; what is built on comes first.

    Args:
        recipes: What to compare on.
        methods: What to compare.
        seeds: One run of every method for each.
        root: Where runs are.
    """
    found = {name: runs(root, name) for name in {recipe.name for recipe in recipes}}
    existing = {name: _by_key(each) for name, each in found.items()}
    searched = {search_key(run.recipe): run for each in found.values() for run in each if has_search(run)}
    searched.pop(None, None)
    trials: dict[str, Trial] = {}
    for seed in seeds:
        for recipe in recipes:
            for method in methods:
                wanted = recipe.model_copy(update={"method": method, "seed": seed})
                for one in _with_needs(wanted):
                    key = trial_key(one)
                    asked = one == wanted or (key in trials and trials[key].wanted)
                    trials[key] = Trial(one, asked, existing[one.name].get(key), searched=searched.get(search_key(one)))
    return list(trials.values())


def _with_needs(recipe: Recipe) -> Iterator[Recipe]:
    for needed in Trial(recipe, True, None).needs:
        yield from _with_needs(needed)
    yield recipe


def trial_key(recipe: Recipe) -> str:
    """What two recipes of one trial have in common: all that has a bearing on the result.

    Args:
        recipe: With method and seed in it.
    """
    values = recipe.model_dump(mode="json", exclude={"description": True, "data": {"root"}, "eval": {"submission"}})
    for stage in ("search", "retrain"):
        for field in ("checkpoint_every", "log_every"):
            values[stage].pop(field)
    return json.dumps(values, sort_keys=True)


def search_key(recipe: Recipe) -> str | None:
    """What trials have in common that do their search once; None where the search is shared with nobody.

    Args:
        recipe: With method and seed in it.
    """
    try:
        key = method_class(recipe.method.name).search_key(recipe)
    except UserError:  # another package's method, of a run that is there, which cannot be imported any more
        return None
    return None if key is None else f"{recipe.name} {key}"


def _by_key(found: Iterable[Run]) -> dict[str, Run]:
    """The run of each trial: the newest that has ended, or the newest."""
    best: dict[str, Run] = {}
    for run in found:  # oldest first
        key = trial_key(run.recipe)
        if key not in best or run.stage_state("eval") == "success" or best[key].stage_state("eval") != "success":
            best[key] = run
    return best


def check_plan(recipes: Sequence[Recipe], methods: Sequence[MethodSettings]) -> None:
    """Make sure of what can be known before anything is run.

    Args:
        recipes: What to compare on.
        methods: What to compare.

    Raises:
        UserError: A recipe is named twice, or a method cannot do one.
    """
    names = [recipe.name for recipe in recipes]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"the recipe {sorted(twice)[0]} is named twice")
    for method in methods:
        for recipe in recipes:
            wanted = recipe.model_copy(update={"method": method})
            for one in _with_needs(wanted):
                _check(one, wanted)


def _check(recipe: Recipe, wanted: Recipe) -> None:
    """Raises UserError where the method of a recipe cannot do it, or one that it builds on cannot."""
    try:
        method_class(recipe.method.name).check_recipe(recipe)
    except UserError as error:
        if recipe == wanted:
            raise
        raise UserError(f"method {label(wanted.method)!r} builds on {label(recipe.method)!r}: {error}") from error
