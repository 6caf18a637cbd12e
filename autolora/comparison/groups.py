"""The trials of a comparison by task and method: ``scores_by_task(results)``, which every table of it starts from.

A task is a recipe, called by its name. A trial has a score if its run succeeded and the score is a finite number; of
all other trials (failed, cancelled, missing, still running) only the number is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autolora.errors import UserError
from autolora.runs.results import Result

AVERAGE = "average"


@dataclass(frozen=True)
class Group:
    """One method on one task, or on all tasks.

    Args:
        method: Its label.
        metric: Of the scores, "" where nothing succeeded.
        scores: By seed. On all tasks it is the mean over the tasks, for those seeds where the method has every one of
            them.
        scored: The trials that the scores are from.
        failed: How many trials have no score.
        higher_is_better: Of the metric.
    """

    method: str
    metric: str
    scores: Mapping[int, float]
    scored: tuple[Result, ...]
    failed: int
    higher_is_better: bool = True


@dataclass(frozen=True)
class TaskScores:
    """All methods on one task, or on all tasks (`is_average`), by method: what is compared with each other."""

    task: str
    groups: Mapping[str, Group]
    is_average: bool = False

    @property
    def higher_is_better(self) -> bool:
        """The direction of the metric."""
        return all(group.higher_is_better for group in self.groups.values() if group.scored)


def scores_by_task(results: Sequence[Result]) -> list[TaskScores]:
    """One for each task, tasks and methods in order of first appearance; then, with two tasks or more, the average.

    There is no average over metrics of which some are better when higher and some when lower, or over several whose
    greatest values differ (BLEU's is 1, CIDEr's 10, NIST's has no bound): the widest would decide it.

    Args:
        results: Of every trial, successful or not.

    Raises:
        UserError: A recipe, method and seed come twice, or a task's scores are of different metrics or examples.
    """
    _check_unique(results)
    for mine in by_task(results).values():
        _check_alike([result for result in mine if has_score(result)])
    methods, tasks = methods_of(results), tasks_of(results)
    found = [TaskScores(task, _by_method(mine, methods)) for task, mine in by_task(results).items()]
    if len(tasks) > 1 and _comparable([task for task in found if _has_scores(task)]):
        averages = {method: _average(method, found, len(tasks)) for method in methods}
        name = AVERAGE if AVERAGE not in tasks else f"{AVERAGE} of all tasks"  # a recipe may be called so
        found.append(TaskScores(name, averages, is_average=True))
    return found


def methods_of(results: Sequence[Result]) -> list[str]:
    """The methods, in order of first appearance."""
    return list(dict.fromkeys(result.method for result in results))


def tasks_of(results: Sequence[Result]) -> list[str]:
    """The recipes' names, in order of first appearance."""
    return list(dict.fromkeys(result.recipe for result in results))


def by_task(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The trials of each task, in order of first appearance.

    Args:
        results: Of every trial, successful or not.
    """
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.recipe, []).append(result)
    return found


def _has_scores(task: TaskScores) -> bool:
    return any(group.scores for group in task.groups.values())


def _comparable(tasks: Sequence[TaskScores]) -> bool:
    """Whether the tasks' metrics have an average: they go one way, and are one metric or have one greatest value."""
    trials = [trial for task in tasks for group in task.groups.values() for trial in group.scored]
    tops = {score.high for trial in trials for score in trial.scores if score.name == trial.metric}
    same = len({trial.metric for trial in trials}) < 2 or not tops or (len(tops) == 1 and None not in tops)
    return same and len({task.higher_is_better for task in tasks}) < 2


def has_score(result: Result) -> bool:
    """Whether the trial counts in means and comparisons.

    Args:
        result: Of a trial, successful or not.
    """
    return result.state == "success" and result.score is not None and math.isfinite(result.score)


def _by_method(results: Sequence[Result], methods: Sequence[str]) -> dict[str, Group]:
    """Of one task's trials, in the order of all methods."""
    trials: dict[str, list[Result]] = {method: [] for method in methods}
    for result in results:
        trials[result.method].append(result)
    return {method: _group(method, found) for method, found in trials.items() if found}


def _group(method: str, trials: Sequence[Result]) -> Group:
    scored = tuple(sorted(filter(has_score, trials), key=lambda result: result.seed))
    metric = next((result.metric for result in scored if result.metric), "")
    scores = {result.seed: result.score for result in scored if result.score is not None}
    up = all(result.higher_is_better for result in scored)
    return Group(method, metric, scores, scored, len(trials) - len(scored), up)


def _average(method: str, by_task: Sequence[TaskScores], tasks: int) -> Group:
    groups = [task_scores.groups[method] for task_scores in by_task if method in task_scores.groups]
    complete = set.intersection(*(set(group.scores) for group in groups)) if len(groups) == tasks else set()
    scores = {seed: math.fsum(group.scores[seed] for group in groups) / tasks for seed in sorted(complete)}
    scored = tuple(result for group in groups for result in group.scored if result.seed in complete)
    failed, up = sum(group.failed for group in groups), all(group.higher_is_better for group in groups if group.scored)
    return Group(method, f"mean of {tasks} tasks", scores, scored, failed, up)


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


def _check_alike(results: Sequence[Result]) -> None:
    """Of one task's scored trials: a run may have been evaluated otherwise since it was compared."""
    measures: dict[str, Result] = {}
    rows: dict[tuple[int, str], tuple[str, Result]] = {}
    for result in results:
        measures.setdefault(_measure(result), result)
        if len(measures) > 1:
            (one, first), (other, second) = measures.items()
            raise _unlike(first, second, f"{one}, and {other}")
        for split, found in result.manifest.get("stages", {}).get("eval", {}).get("data", {}).items():
            known, first = rows.setdefault((result.seed, split), (found, result))
            if split in {row["split"] for row in result.rows} and known != found:
                raise _unlike(first, result, f"the same seed, and other rows of split {split!r}")


def _measure(result: Result) -> str:
    """The metric, and how many examples of each split it is over, as far as the run says."""
    counts = dict.fromkeys(f"{row['examples']} examples of {row['split']}" for row in result.rows if "examples" in row)
    return " on ".join(filter(None, [str(result.metric), ", ".join(counts)]))


def _unlike(one: Result, other: Result, what: str) -> UserError:
    return UserError(
        f"{one.recipe}: {one.run} and {other.run} are not measured alike ({what}), so their scores cannot stand in one "
        "table; evaluate both in the same way (autolora eval RUN), or report them apart"
    )
