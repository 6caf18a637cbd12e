"""What a comparison will take: ``estimates(trials, jobs)`` times a part of every recipe's work on this machine.

What is timed is in `autolora.comparison.probe`. Methods say how many steps they take (`Method.workload`), and what they
measure; a search that several trials share counts once. Of what cannot be known it is taken that every method's step
takes what that of a LoRA of rank k does, that no training ends before its last step (`retrain.patience`), and that
outputs are as long as the references.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING

from autolora.comparison.plan import Trial, search_key
from autolora.comparison.precision import settle, settled
from autolora.comparison.probe import Probe, run_probe
from autolora.data.files import is_local
from autolora.errors import UserError
from autolora.methods.base import method_class
from autolora.recipe.schema import Recipe
from autolora.tables import Row

if TYPE_CHECKING:
    from autolora.training.compute import Precision

LEFT_BY_SEARCH = 5  # times the adapter: that of the search, its evidence, the head with its optimiser, the result
OF_A_STEP = {  # fields that what is timed depends on
    "data": ("hub", "path", "config", "columns", "max_length", "packing", "generated"),
    "search": ("rank", "batch_size", "validation_batch_size", "gradient_accumulation", "estimator", "inner_step"),
    "retrain": ("batch_size", "gradient_accumulation", "keep", "patience", "by", "held_out"),
    "eval": ("metrics", "batch_size", "generation"),
    "method": ("targets",),
}
BESIDE = 2**20  # bytes of logs, tables, predictions and figures of a run, roughly


@dataclass(frozen=True)
class Times:
    """Seconds of a trial, or of several.

    Args:
        loading: Of data and models.
        search: Of search steps.
        training: Of plain steps, those that measure among them.
        choosing: Of evaluations of the rows by which weights are chosen.
        evaluation: Of the evaluation splits.
    """

    loading: float = 0.0
    search: float = 0.0
    training: float = 0.0
    choosing: float = 0.0
    evaluation: float = 0.0

    @property
    def total(self) -> float:
        """Of all parts."""
        return self.loading + self.search + self.training + self.choosing + self.evaluation

    def __add__(self, other: Times) -> Times:
        return Times(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Estimate:
    """Of the trials of one recipe.

    Args:
        recipe: Its name.
        trials: How many there are.
        done: How many of them are done already.
        search_steps: Of those that are left; None, as all that follows, where it could not be measured.
        retrain_steps: Plain training steps of those.
        each: What each of those will take.
        size: Bytes that they will write.
        problem: Why it could not be measured.
        faulty: Whether that is for the user to mend before anything is run.
    """

    recipe: str
    trials: int
    done: int
    search_steps: int | None
    retrain_steps: int | None
    each: tuple[Times, ...] | None
    size: int | None
    problem: str = ""
    faulty: bool = False

    @property
    def times(self) -> Times | None:
        """Of all of them, one after the other."""
        return None if self.each is None else sum(self.each, Times())

    @property
    def seconds(self) -> float | None:
        """Of all of them, one after the other."""
        return None if self.times is None else self.times.total

    def row(self) -> Row:
        """The row of the table of steps, with MiB."""
        return {
            "recipe": self.recipe,
            "trials": self.trials,
            "done": self.done,
            "search steps": self.search_steps,
            "training steps": self.retrain_steps,
            "disk MiB": None if self.size is None else round(self.size / 2**20),
        }

    def time_row(self) -> Row:
        """The row of the table of times: what its trials take one after the other."""
        times = self.times
        if times is None:
            return {"recipe": self.recipe}
        parts = {"loading": times.loading, "search": times.search, "training": times.training}
        if times.choosing:
            parts["held out"] = times.choosing
        parts |= {"evaluation": times.evaluation, "all": times.total}
        return {"recipe": self.recipe, **{name: in_words(seconds) for name, seconds in parts.items()}}


def estimates(trials: Sequence[Trial], jobs: int = 1, threads: int | None = None) -> list[Estimate]:
    """One for each recipe, in order. What is wrong with data or model is said, not raised.

    Args:
        trials: From `autolora.comparison.plan.plan`.
        jobs: How many will run at a time.
        threads: Of each of them, however few they are; None for what there is.
    """
    found: list[Estimate] = []
    precisions = settle(trials)
    at_once = max(1, min(jobs, sum(not trial.done for trial in trials)))
    unreachable: dict[str | None, str] = {}  # data sets of the hub, by name, with the recipe that found out
    for name in dict.fromkeys(trial.recipe.name for trial in trials):
        mine = [trial for trial in trials if trial.recipe.name == name]
        todo = [trial for trial in mine if not trial.done]
        counts = (name, len(mine), len(mine) - len(todo))
        if not todo:
            found.append(Estimate(*counts, 0, 0, (), 0))
            continue
        data = todo[0].recipe.data
        if not is_local(data) and data.hub in unreachable:
            found.append(Estimate(*counts, None, None, None, None, f"as {unreachable[data.hub]}"))
            continue
        mine_found = [_estimate(counts, each, precisions, at_once, threads) for each in _by_pace(todo)]
        if not is_local(data) and data.hub is not None and any(each.problem and not each.faulty for each in mine_found):
            unreachable[data.hub] = name
        found.append(_together(mine_found))
    return found


def wall_seconds(found: Sequence[Estimate], jobs: int) -> float:
    """Until the last trial has ended, where each begins as soon as there is room for it.

    Args:
        found: From `estimates`.
        jobs: How many run at a time.
    """
    ends = [0.0] * jobs
    for each in found:
        for times in each.each or ():
            place = ends.index(min(ends))
            ends[place] += times.total
    return max(ends)


def _estimate(
    counts: tuple[str, int, int],
    todo: Sequence[Trial],
    precisions: Mapping[str, Precision],
    jobs: int,
    threads: int | None,
) -> Estimate:
    ordered = sorted(todo, key=lambda trial: trial.tuning)  # of reported trials all splits are read
    result = run_probe([_at(trial.recipe, settled(trial.recipe, precisions)) for trial in ordered], jobs, threads)
    if isinstance(result, Probe):
        return _of(counts, todo, result, whole=not ordered[0].tuning)
    return Estimate(*counts, None, None, None, None, str(result), faulty=isinstance(result, UserError))


def _by_pace(todo: Sequence[Trial]) -> list[list[Trial]]:
    """The trials of one recipe by what a step of theirs takes, which the settings of a sweep may change."""
    found: dict[str, list[Trial]] = {}
    for trial in todo:
        recipe = trial.recipe
        values = {"model": recipe.model.model_dump(mode="json")}
        for section, names in OF_A_STEP.items():
            dumped = getattr(recipe, section).model_dump(mode="json")
            values[section] = {name: dumped.get(name) for name in names}
        values["search"]["every"] = recipe.search.selection.every
        found.setdefault(json.dumps(values), []).append(trial)
    return [*found.values()]


def _together(found: Sequence[Estimate]) -> Estimate:
    """One estimate of a recipe's trials from those of its paces; that of one which has a problem."""
    first = next((each for each in found if each.problem), found[0])
    if first.problem or len(found) == 1:
        return first
    totals = {name: sum(getattr(each, name) for each in found) for name in ("search_steps", "retrain_steps", "size")}
    return replace(first, each=tuple(times for one in found for times in one.each or ()), **totals)


def _at(recipe: Recipe, precision: Precision) -> Recipe:
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"dtype": precision})})


def _of(counts: tuple[str, int, int], todo: Sequence[Trial], probe: Probe, *, whole: bool) -> Estimate:
    """From a probe of the whole training split, or of what a tuning trial has of it."""
    search = plain = size = 0
    each: list[Times] = []
    made = {trial.search_key for trial in todo if trial.source is not None}
    for trial in todo:
        share = (trial.recipe.data.splits.held_out or 0.0) if trial.tuning and whole else 0.0
        examples = round(probe.examples * (1 - share))
        method, key = method_class(trial.recipe.method.name), _search_of(trial)
        searched, trained = method.workload(trial.recipe, examples)
        shared = key is not None and key in made
        if shared:
            there = method.search_workload(trial.recipe, examples)
            searched, trained = searched - there[0], trained - there[1]
        made.add(key)
        search, plain = search + searched, plain + trained
        each.append(_times(trial, probe, (searched, trained), examples, share, shared=shared))
        leaves = LEFT_BY_SEARCH if any(method.search_workload(trial.recipe, probe.examples)) else 1
        size += BESIDE + (probe.model_bytes if method.saves_model else probe.adapter_bytes * leaves)
    return Estimate(*counts, search, plain, tuple(each), size)


def _times(trial: Trial, probe: Probe, steps: tuple[int, int], examples: int, share: float, *, shared: bool) -> Times:
    recipe, method = trial.recipe, method_class(trial.recipe.method.name)
    searches = any(method.search_workload(recipe, examples))
    loads = 1 + (0 if not searches else 1 if shared else 2)  # beside the first: for the evaluation, and in a search
    measured = 0 if shared else method.measured_examples(recipe, examples)
    batches = -(-measured // recipe.retrain.batch_size) if measured else 0
    measuring = batches * (probe.measuring or probe.plain)
    losses = method.measured_losses(recipe) * method.measured_examples(recipe, examples) * probe.losing
    return Times(
        probe.loading + loads * probe.model,
        steps[0] * probe.search,
        (steps[1] - batches) * probe.plain + measuring + losses,
        _looks(recipe, examples) * probe.looking,
        probe.evaluation * (share * probe.inputs / probe.rows if share else 1.0),
    )


def _looks(recipe: Recipe, examples: int) -> int:
    """Evaluations of the rows by which weights are chosen."""
    method = method_class(recipe.method.name)
    if not (recipe.retrain.evaluates and method.trains):
        return 0
    total = recipe.retrain.total_steps(examples)
    retrained = method.workload(recipe, examples)[1] - method.search_workload(recipe, examples)[1]
    begin, every = total - min(total, retrained), recipe.retrain.every(total)
    return math.ceil(total / every) - begin // every


def _search_of(trial: Trial) -> str | None:
    """The key of a trial's search; of one that is to come at a rate of its own, one of its own if that matters."""
    key = trial.search_key
    if key is None or not (trial.tuning and trial.point and trial.run is None):
        return key
    method = trial.recipe.method
    other = method.model_copy(update={"learning_rate": (method.learning_rate or 1e-3) / 2})
    depends = search_key(trial.recipe.model_copy(update={"method": other})) != key
    return f"{key} {trial.point}" if depends else key


def in_words(seconds: float) -> str:
    """``2 h 05 min``, ``12 min``, ``40 s``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
