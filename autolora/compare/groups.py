"""The cells of a comparison by task and method: ``families(results)``, which every table of it starts from.

A task is a recipe, called by its name. A cell has a score if its run succeeded and the score is a finite number; of all
other cells (failed, cancelled, missing, still running) only the number is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autolora.compare.results import Result
from autolora.errors import UserError

AVERAGE = "average"


@dataclass(frozen=True)
class Group:
    """One method on one task, or on all tasks.

    scores: by seed. On all tasks it is the mean over the tasks, for those seeds where the method has every one of them.
    scored: the cells that the scores are from. failed: how many cells have no score.
    metric: of the scores, "" where nothing succeeded.
    """

    method: str
    metric: str
    scores: Mapping[int, float]
    scored: tuple[Result, ...]
    failed: int


@dataclass(frozen=True)
class Family:
    """All methods on one task, or on all tasks (`is_average`), by method: what is compared with each other."""

    task: str
    groups: Mapping[str, Group]
    is_average: bool = False


def families(results: Sequence[Result]) -> list[Family]:
    """One family a task, tasks and methods in order of first appearance; then, with two tasks or more, the average.

    Raises UserError where a recipe, method and seed come twice.
    """
    _check_unique(results)
    methods, tasks = methods_of(results), tasks_of(results)
    found = [Family(task, _by_method(results, task, methods)) for task in tasks]
    if len(tasks) > 1:
        averages = {method: _average(method, found, len(tasks)) for method in methods}
        found.append(Family(AVERAGE, averages, is_average=True))
    return found


def methods_of(results: Sequence[Result]) -> list[str]:
    """The methods, in order of first appearance."""
    return list(dict.fromkeys(result.method for result in results))


def tasks_of(results: Sequence[Result]) -> list[str]:
    """The recipes' names, in order of first appearance."""
    return list(dict.fromkeys(result.recipe for result in results))


def has_score(result: Result) -> bool:
    """Whether the cell counts in means and comparisons."""
    return result.state == "success" and result.score is not None and math.isfinite(result.score)


def _by_method(results: Sequence[Result], task: str, methods: Sequence[str]) -> dict[str, Group]:
    cells = {method: [r for r in results if r.recipe == task and r.method == method] for method in methods}
    return {method: _group(method, found) for method, found in cells.items() if found}


def _group(method: str, cells: Sequence[Result]) -> Group:
    scored = tuple(sorted(filter(has_score, cells), key=lambda result: result.seed))
    metric = next((result.metric for result in scored if result.metric), "")
    scores = {result.seed: result.score for result in scored if result.score is not None}
    return Group(method, metric, scores, scored, len(cells) - len(scored))


def _average(method: str, by_task: Sequence[Family], tasks: int) -> Group:
    groups = [family.groups[method] for family in by_task if method in family.groups]
    complete = set.intersection(*(set(group.scores) for group in groups)) if len(groups) == tasks else set()
    scores = {seed: math.fsum(group.scores[seed] for group in groups) / tasks for seed in sorted(complete)}
    scored = tuple(result for group in groups for result in group.scored if result.seed in complete)
    return Group(method, f"mean of {tasks} tasks", scores, scored, sum(group.failed for group in groups))


def _check_unique(results: Sequence[Result]) -> None:
    seen: dict[tuple[str, str, int], Result] = {}
    for result in results:
        key = (result.recipe, result.method, result.seed)
        if key in seen:
            where = " and ".join(str(r.run) for r in (seen[key], result) if r.run is not None)
            raise UserError(
                f"a table takes one run for each recipe, method and seed; there are two of {result.recipe}, "
                f"{result.method}, seed {result.seed}{': ' + where if where else ''}. Leave one out."
            )
        seen[key] = result
