"""The table of a comparison on planted truth: how well each method recovered the planted ranks, ``recovery(results)``.

| symbol | meaning |
|---|---|
| e | mean error of a method over the seeds that it shares with both others |
| u | that of uniform ranks, over the same seeds |
| o | that of the true ranks (``oracle``) |

The share of the gap that is closed is (u - e) / (u - o): 0 is what uniform ranks are worth, 1 what the true ones are.
It is of means, since between the two of a single seed there may be almost nothing; and there is one only where uniform
ranks of the true ones' size were compared (``oracle-uniform``, or ``lora-matched`` where it is of that size): uniform
ranks of another budget say nothing about the allocation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autolora.comparison.groups import Group, scores_by_task
from autolora.comparison.statistics import mean
from autolora.planted.recovery import gap_closed
from autolora.runs.results import Result
from autolora.tables import Row

ORACLE, UNIFORM = "oracle", ("oracle-uniform", "lora-matched")
SAME_SIZE = 0.05  # relative difference of parameters, at most
CAPTION = (
    "Planted ranks: how well they were recovered (AUC of module choice, 0.5 is chance); size: parameters, in those of "
    f"the true ranks; and the share of the gap from uniform ranks of that size to {ORACLE} that is closed"
)


def recovery(results: Sequence[Result]) -> list[Row]:
    """A row for each method on each task with planted ranks; none where there is no such task.

    Args:
        results: Of every trial, successful or not.

    Raises:
        UserError: A recipe, method and seed come twice.
    """
    rows: list[Row] = []
    for task in scores_by_task(results):
        planted = _planted(task.groups)
        if planted and not task.is_average:
            rows += [_row(task.task, group, task.groups, planted) for group in task.groups.values()]
    return rows


def _planted(groups: Mapping[str, Group]) -> dict[int, int]:
    """The parameters of the true ranks by seed."""
    found = {trial.seed: _recovered(trial) for group in groups.values() for trial in group.scored if _recovered(trial)}
    return {seed: record["parameters"] for seed, record in found.items()}


def _row(task: str, group: Group, groups: Mapping[str, Group], planted: Mapping[int, int]) -> Row:
    found = [record for trial in group.scored if (record := _recovered(trial))]
    return {
        "task": task,
        "method": group.method,
        "module AUC": _mean([record["auc"] for record in found]),
        "rank Spearman": _mean([record["correlation"] for record in found]),
        "size": None if (size := _size(group, planted)) is None else f"{size:.2f}",
        "gap closed": _gap(group, groups, planted),
        "seeds": len(group.scores),
    }


def _recovered(result: Result) -> Mapping[str, Any]:
    """What the run's evaluation says of it; nothing where the method has no ranks, or nothing was planted."""
    found: Mapping[str, Any] = result.manifest.get("stages", {}).get("eval", {}).get("recovery", {})
    return found


def _size(group: Group, planted: Mapping[int, int]) -> float | None:
    """The mean of a method's parameters, in those of the true ranks."""
    known = [(trial.adapter_parameters, planted.get(trial.seed)) for trial in group.scored]
    return mean([own / true for own, true in known if own is not None and true])


def _uniform(groups: Mapping[str, Group], planted: Mapping[int, int]) -> Group | None:
    """Uniform ranks of the true ones' size, if they are compared."""
    found = [group for name, group in groups.items() if name.split(":")[0] in UNIFORM]
    sizes = [(abs(size - 1), group) for group in found if (size := _size(group, planted)) is not None]
    distance, nearest = min(sizes, key=lambda pair: pair[0], default=(1.0, None))
    return nearest if distance <= SAME_SIZE else None


def _gap(group: Group, groups: Mapping[str, Group], planted: Mapping[int, int]) -> str | None:
    """The share of the gap in percent; None where it is not known."""
    uniform = _uniform(groups, planted)
    if uniform is None or ORACLE not in groups:
        return None
    three = (group, uniform, groups[ORACLE])
    seeds = sorted(set.intersection(*(set(each.scores) for each in three)))
    if not seeds:
        return None
    sign = -1.0 if group.higher_is_better else 1.0
    error, even, oracle = (sign * sum(each.scores[seed] for seed in seeds) / len(seeds) for each in three)
    closed = gap_closed(error, even, oracle)
    return None if closed is None else f"{closed:.0%}"


def _mean(values: Sequence[float | None]) -> float | None:
    return mean([value for value in values if value is not None])
