"""What a comparison consists of: ``plan(recipes, methods, seeds, root)`` gives its trials, each with its run.

A trial is a recipe with a method and a seed, and a run of its own. A run belongs to a trial if it is one of exactly
that recipe, wherever it came from: what was run alone is not run again. Methods that build on others (`Method.needs`)
bring these along, in front of them. Trials whose searches are the same (`Method.search_key`) do it once.

What a trial builds on is what its method says for its recipe, whatever else is compared: where methods are tuned
(`autolora.comparison.tune`), `lora-matched` at its own rate takes the ranks of AutoLoRA at the recipe's, which are
those of AutoLoRA at any rate, since the search's rates are not the retraining's; `svd` compresses a LoRA of its own
rate. So a trial is the same whatever it is compared with, and is run once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autolora.comparison.keys import trial_key
from autolora.comparison.spelling import twice
from autolora.errors import UserError
from autolora.methods.base import method_class
from autolora.methods.sharing import has_search
from autolora.recipe.method import check_targets, label
from autolora.recipe.pairs import contradictions
from autolora.recipe.schema import MethodSettings, Recipe
from autolora.runs.folders import TUNING
from autolora.runs.listing import runs
from autolora.runs.results import read_result
from autolora.runs.store import Run


@dataclass(frozen=True)
class Trial:
    """One recipe, method and seed.

    Args:
        recipe: With method and seed in it.
        wanted: Whether it was asked for; others are only built on.
        run: The run that it has, finished or not; None where there is none yet.
        tuning: Whether it tries a setting, and is reported nowhere.
        undecided: Whether its learning rate has yet to be chosen; the one in its recipe stands for it.
        searched: Another run that has made the search that this trial shares; None where none is known.
        point: Its settings in a sweep, "" where nothing is swept.
    """

    recipe: Recipe
    wanted: bool
    run: Run | None
    tuning: bool = False
    undecided: bool = False
    searched: Run | None = None
    point: str = ""

    @property
    def method(self) -> str:
        """The method's label: ``lora:4``."""
        return label(self.recipe.method)

    @property
    def name(self) -> str:
        """How messages call it."""
        method, at = self.recipe.method, f"{self.point} " if self.point else ""
        if self.undecided:
            plain = label(method.model_copy(update={"learning_rate": None}))
            return f"{self.recipe.name} {plain} {at}seed {self.recipe.seed} at the rate that tuning chooses"
        return f"{self.recipe.name} {self.method} {at}{'tuning ' if self.tuning else ''}seed {self.recipe.seed}"

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
    wanted = [
        recipe.model_copy(update={"method": method, "seed": seed})
        for seed in seeds
        for recipe in recipes
        for method in methods
    ]
    return trials_of(wanted, root)


def trials_of(wanted: Sequence[Recipe], root: Path, *, tuning: bool = False) -> list[Trial]:
    """The trials of these recipes, and of what they build on, in front of them.

    Args:
        wanted: With method and seed in them.
        root: Where runs are.
        tuning: Whether they try a setting.

    Raises:
        UserError: The files of a run that has ended are not what was written.
    """
    folder = f"/{TUNING}" if tuning else ""
    found = {name: runs(root, f"{name}{folder}") for name in {recipe.name for recipe in wanted}}
    existing = {name: _by_key(each) for name, each in found.items()}
    searched = {search_key(run.recipe): run for each in found.values() for run in each if has_search(run)}
    searched.pop(None, None)
    trials: dict[str, Trial] = {}
    for recipe in wanted:
        for one in with_needs(recipe):
            key = trial_key(one)
            asked = one == recipe or (key in trials and trials[key].wanted)
            source = searched.get(search_key(one))
            trials[key] = Trial(one, asked, existing[one.name].get(key), tuning, searched=source)
    for trial in trials.values():
        if trial.run is not None and trial.done:
            read_result(trial.run)  # what is damaged is said before anything is run
    return list(trials.values())


def with_needs(recipe: Recipe) -> Iterator[Recipe]:
    """The recipes that one builds on, and itself.

    Args:
        recipe: With method and seed in it.
    """
    for needed in Trial(recipe, True, None).needs:
        yield from with_needs(needed)
    yield recipe


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
        UserError: A recipe is named twice, or methods cannot do recipes: all that is wrong, a line each.
    """
    names = [recipe.name for recipe in recipes]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"the recipe {sorted(twice)[0]} is named twice")
    if faults := list(dict.fromkeys(_faults(recipes, methods))):
        raise UserError("\n".join(faults))


def _faults(recipes: Sequence[Recipe], methods: Sequence[MethodSettings]) -> Iterator[str]:
    yield from twice(recipes, methods)
    for method in methods:
        check_targets(method)
        for recipe in recipes:
            for field, message, hint in contradictions(recipe.search, recipe.ranks, recipe.retrain, method):
                yield f"{recipe.name}, method {label(method)}: {field}: {message} ({hint})"
            wanted = recipe.model_copy(update={"method": method})
            for one in with_needs(wanted):
                try:
                    method_class(one.method.name).check_recipe(one)
                except UserError as error:
                    of = "" if one == wanted else f"method {label(method)!r} builds on {label(one.method)!r}: "
                    yield f"{of}{error}"
