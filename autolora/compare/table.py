"""Tables of a comparison, as rows for `autolora.report.tables`: ``summary(results, "lora:4")``, ``differences(...)``.

`autolora.compare.latex` and `autolora.compare.wide` have those with a column for each task.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from autolora.compare.groups import Family, Group, families, has_score, methods_of
from autolora.compare.results import Result
from autolora.compare.statistics import check_interval, holm, mean, paired, sd, verdict
from autolora.errors import UserError
from autolora.report.tables import Cell, Row


def summary(results: Sequence[Result], baseline: str | None, interval: str = "t") -> list[Row]:
    """A row for each task and method, then with two tasks or more one for each method's average over the tasks.

    mean and sd (over n − 1) are of the score over the seeds that succeeded, which "seeds" counts; the average is taken
    for each seed first, over seeds where the method has every task. With a baseline, a column says the mean difference
    to it on the same seeds and the 95 % interval. Parameters (beside the head), total rank, seconds and passes are
    means over the cells that the scores are from, memory is their largest. "failed" counts cells without a score, and
    "other metrics" has the means of a task's further metrics; each is a column only if some row needs it.
    Raises UserError for a baseline or an interval that there is not.
    """
    check_interval(interval)
    _check_baseline(results, baseline)
    rows = [
        _summary_row(family, group, baseline, interval) for family in families(results) for group in _groups(family)
    ]
    unused = {name for name in ("failed", "other metrics") if all(row[name] is None for row in rows)}
    return [{name: cell for name, cell in row.items() if name not in unused} for row in rows]


def differences(
    results: Sequence[Result], baseline: str, interval: str = "t", confidence: float = 0.95, alpha: float = 0.05
) -> list[Row]:
    """Every other method less the baseline, on each task and on the average: a row each.

    difference, low, high: mean and interval of the paired differences over the seeds that both have. p: of the paired
    test (see `autolora.compare.statistics`). "p (Holm)": corrected over all methods compared with the baseline within
    that task (and within the average); tasks are not corrected for each other. verdict: "no difference found" where
    that p is at least `alpha`, "better", "worse", or "too few seeds".
    Raises UserError for a baseline, an interval or a confidence that there is not.
    """
    check_interval(interval)
    _check_baseline(results, baseline)
    rows: list[Row] = []
    for family in families(results):
        reference = family.groups[baseline].scores if baseline in family.groups else {}
        others = [group for group in _groups(family) if group.method != baseline]
        found = [paired(group.scores, reference, interval, confidence) for group in others]
        adjusted = holm([difference.p for difference in found])
        for group, difference, p in zip(others, found, adjusted, strict=True):
            rows.append(
                {
                    "task": family.task,
                    "method": group.method,
                    "baseline": baseline,
                    "difference": difference.mean,
                    "low": difference.low,
                    "high": difference.high,
                    "seeds": difference.seeds,
                    "p": difference.p,
                    "p (Holm)": p,
                    "verdict": verdict(difference.mean, p, alpha),
                }
            )
    return rows


def failures(results: Sequence[Result]) -> list[Row]:
    """The cells without a score, in the order given, and why."""
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
    """Every cell as an object for JSON: the fields of `Result` less the manifest, and the totals. NaN becomes None."""
    return [
        {
            **{field.name: _plain(getattr(result, field.name)) for field in fields(Result) if field.name != "manifest"},
            "total_rank": result.total_rank,
            "total_seconds": result.total_seconds,
        }
        for result in results
    ]


def from_json(cells: Sequence[Mapping[str, Any]]) -> list[Result]:
    """What `as_json` was given, less the manifests."""
    names = {field.name for field in fields(Result)}
    found = []
    for cell in cells:
        known = {name: value for name, value in cell.items() if name in names}
        run = known.get("run")
        rows = tuple(known.get("rows", ()))
        found.append(Result(**{**known, "run": None if run is None else Path(run), "rows": rows}))
    return found


def _groups(family: Family) -> list[Group]:
    return list(family.groups.values())


def _summary_row(family: Family, group: Group, baseline: str | None, interval: str) -> Row:
    scores, cells = list(group.scores.values()), group.scored
    row: dict[str, Cell] = {
        "task": family.task,
        "method": group.method,
        "metric": group.metric or None,
        "mean": mean(scores),
        "sd": sd(scores),
        "seeds": len(scores),
        "failed": group.failed or None,
    }
    if baseline is not None:
        row[f"difference to {baseline}"] = _difference(family, group, baseline, interval)
    parameters = _mean(cell.adapter_parameters for cell in cells)
    memory = [cell.peak_memory_mib for cell in cells if cell.peak_memory_mib is not None]
    return {
        **row,
        "parameters": None if parameters is None else round(parameters),
        "total rank": _mean(cell.total_rank for cell in cells),
        "search s": _mean(cell.search_seconds for cell in cells),
        "retrain s": _mean(cell.retrain_seconds for cell in cells),
        "total s": _mean(cell.total_seconds for cell in cells),
        "memory MiB": max(memory, default=None),
        "forward passes": _mean(cell.forward_passes for cell in cells),
        "backward passes": _mean(cell.backward_passes for cell in cells),
        "other metrics": None if family.is_average else _other_metrics(group),
    }


def _difference(family: Family, group: Group, baseline: str, interval: str) -> str | None:
    if group.method == baseline or baseline not in family.groups:
        return None
    found = paired(group.scores, family.groups[baseline].scores, interval)
    if found.mean is None:
        return None
    limits = "" if found.low is None or found.high is None else f" [{found.low:+.4f}, {found.high:+.4f}]"
    return f"{found.mean:+.4f}{limits}"


def _other_metrics(group: Group) -> str | None:
    names = dict.fromkeys(name for cell in group.scored for name in cell.scores if name != group.metric)
    means = {name: _mean(cell.scores.get(name) for cell in group.scored) for name in names}
    return ", ".join(f"{name} {value:.4f}" for name, value in means.items() if value is not None) or None


def _mean(values: Iterable[float | None]) -> int | float | None:
    """The mean of those that are there; a whole number as such."""
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    found = mean(known)
    return int(found) if found is not None and found.is_integer() else found


def _check_baseline(results: Sequence[Result], baseline: str | None) -> None:
    methods = methods_of(results)
    if baseline is not None and methods and baseline not in methods:
        raise UserError(f"the baseline is one of the methods compared, {', '.join(methods)}; there is no {baseline!r}")


def _plain(value: Any) -> Any:
    """`value` in the types of JSON."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
