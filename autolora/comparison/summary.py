"""Tables of a comparison, as rows for `autolora.tables`: ``summary(results)``, ``differences(...)``.

`autolora.comparison.latex` and `autolora.comparison.wide` have those with a column for each task.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from autolora.comparison.groups import Group, TaskScores, has_score, methods_of, scores_by_task
from autolora.comparison.statistics import check_interval, holm, mean, paired, sd, verdict
from autolora.errors import UserError
from autolora.metrics.base import Score
from autolora.runs.results import Result
from autolora.tables import Cell, Row


def summary(results: Sequence[Result]) -> list[Row]:
    """A row for each task and method, then with two tasks or more one for each method's average over the tasks.

    mean and sd (over n − 1) are of the score over the seeds that succeeded, which "seeds" counts; the average is taken
    for each seed first, over seeds where the method has every task. Parameters (beside the head), total rank, seconds
    and passes are means over the trials that the scores are from, memory is their largest. "failed" counts trials
    without a score, and "other metrics" has the means of a task's further metrics; each is a column only if some row
    needs it.
    """
    rows = [_summary_row(task, group) for task in scores_by_task(results) for group in _groups(task)]
    unused = {name for name in ("failed", "other metrics") if all(row[name] is None for row in rows)}
    return [{name: trial for name, trial in row.items() if name not in unused} for row in rows]


def differences(
    results: Sequence[Result], baseline: str, interval: str = "t", confidence: float = 0.95, alpha: float = 0.05
) -> list[Row]:
    """Every other method less the baseline, on each task and on the average: a row each.

    difference, low, high: mean and interval of the paired differences over the seeds that both have. p: of the paired
    test (see `autolora.comparison.statistics`). "p (Holm)": corrected over all methods compared with the baseline
    within that task (and within the average); tasks are not corrected for each other. verdict: "no difference found"
    where that p is at least `alpha`, "better", "worse", or why there is no test.
    Raises UserError for a baseline, an interval or a confidence that there is not.
    """
    check_interval(interval)
    _check_baseline(results, baseline)
    rows: list[Row] = []
    for task_scores in scores_by_task(results):
        reference = task_scores.groups[baseline].scores if baseline in task_scores.groups else {}
        others = [group for group in _groups(task_scores) if group.method != baseline]
        found = [paired(group.scores, reference, interval, confidence) for group in others]
        adjusted = holm([difference.p for difference in found])
        for group, difference, p in zip(others, found, adjusted, strict=True):
            rows.append(
                {
                    "task": task_scores.task,
                    "method": group.method,
                    "baseline": baseline,
                    "difference": difference.mean,
                    "low": difference.low,
                    "high": difference.high,
                    "seeds": difference.seeds,
                    "p": difference.p,
                    "p (Holm)": p,
                    "verdict": verdict(
                        difference.mean, p, alpha, higher_is_better=group.higher_is_better, seeds=difference.seeds
                    ),
                }
            )
    return rows


def failures(results: Sequence[Result]) -> list[Row]:
    """The trials without a score, in the order given, and why."""
    return [
        {
            "recipe": result.recipe,
            "method": result.method,
            "seed": result.seed,
            "state": result.state,
            "reason": result.reason or ("it has no finite score" if result.state == "success" else None),
        }
        for result in results
        if not has_score(result)
    ]


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Every trial as an object for JSON: the fields of `Result` less the manifest, and the totals. NaN becomes None."""
    return [
        {
            **{field.name: _plain(getattr(result, field.name)) for field in fields(Result) if field.name != "manifest"},
            "initial_rank": result.initial_rank,
            "total_rank": result.total_rank,
            "total_seconds": result.total_seconds,
        }
        for result in results
    ]


def _groups(task_scores: TaskScores) -> list[Group]:
    return list(task_scores.groups.values())


def _summary_row(task_scores: TaskScores, group: Group) -> Row:
    scores, trials = list(group.scores.values()), group.scored
    row: dict[str, Cell] = {
        "task": task_scores.task,
        "method": group.method,
        "metric": group.metric or None,
        "mean": mean(scores),
        "sd": sd(scores),
        "seeds": len(scores),
        "failed": group.failed or None,
    }
    parameters = _mean(trial.adapter_parameters for trial in trials)
    memory = [trial.peak_memory_mib for trial in trials if trial.peak_memory_mib is not None]
    return {
        **row,
        "parameters": None if parameters is None else round(parameters),
        "total rank": _mean(trial.total_rank for trial in trials),
        "search s": _mean(trial.search_seconds for trial in trials),
        "retrain s": _mean(trial.retrain_seconds for trial in trials),
        "total s": _mean(trial.total_seconds for trial in trials),
        "memory MiB": max(memory, default=None),
        "forward passes": _mean(trial.forward_passes for trial in trials),
        "backward passes": _mean(trial.backward_passes for trial in trials),
        "other metrics": None if task_scores.is_average else _other_metrics(group),
    }


def _other_metrics(group: Group) -> str | None:
    found: dict[str, list[float | None]] = {}
    for score in (score for trial in group.scored for score in trial.scores if score.name != group.metric):
        found.setdefault(score.name, []).append(score.value)
    means = {name: _mean(values) for name, values in found.items()}
    return ", ".join(f"{name} {value:.4f}" for name, value in means.items() if value is not None) or None


def _mean(values: Iterable[float | None]) -> int | float | None:
    """The mean of those that are there; a whole number as such."""
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    found = mean(known)
    return int(found) if found is not None and found.is_integer() else found


def _check_baseline(results: Sequence[Result], baseline: str) -> None:
    methods = methods_of(results)
    if methods and baseline not in methods:
        raise UserError(f"the baseline is one of the methods compared, {', '.join(methods)}; there is no {baseline!r}")


def _plain(value: Any) -> Any:
    """`value` in the types of JSON."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Score):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
