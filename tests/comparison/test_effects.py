"""Differences turned so that positive is better: the numbers of the table, its verdicts, and what they are of."""

from __future__ import annotations

import pytest

from autolora.comparison.effects import TaskEffects, effects
from autolora.comparison.groups import scores_by_task
from autolora.comparison.summary import differences
from autolora.runs.results import Result
from tests.comparison.support import TWO, cell, cells, score

SCORES: dict[tuple[str, str], list[float | None]] = {
    ("nlg/e2e", "base"): [0.50, 0.52, 0.51],
    ("nlg/e2e", "fewer"): [0.40, 0.43, 0.41],
    ("nlg/e2e", "more"): [0.60, None, None],
}


def found(results: list[Result], baseline: str) -> list[TaskEffects]:
    return effects(differences(results, baseline), scores_by_task(results))


def test_where_higher_is_better_they_are_the_tables() -> None:
    rows = differences(TWO, "lora:4")
    drawn = {task.task: task.effects for task in found(TWO, "lora:4")}
    assert list(drawn) == ["average", "glue-mini/rte", "glue-mini/mrpc"]
    for row in rows:
        (effect,) = drawn[str(row["task"])]
        assert (effect.mean, effect.low, effect.high) == (row["difference"], row["low"], row["high"])
        assert (effect.method, effect.seeds, effect.verdict) == (row["method"], row["seeds"], row["verdict"])


def test_where_lower_is_better_sign_and_ends_are_turned_and_the_verdict_stays() -> None:
    results = cells(SCORES, metric="ter", higher_is_better=False)
    fewer, more = found(results, "base")[0].effects
    row = differences(results, "base")[0]
    assert isinstance(row["low"], float)
    assert isinstance(row["high"], float)
    assert (fewer.mean, fewer.low, fewer.high) == pytest.approx((0.29 / 3, -row["high"], -row["low"]))
    assert 0 < (fewer.low or 0) < (fewer.high or 0)
    assert (fewer.verdict, fewer.told_apart) == ("better", True)
    assert (more.mean, more.low, more.high, more.seeds) == (pytest.approx(-0.1), None, None, 1)
    assert (more.untested, more.told_apart) == (True, False)


def test_a_recipe_called_average_has_its_own_effects() -> None:
    results = cells({("average", "a"): [0.1], ("average", "b"): [0.2], ("t", "a"): [0.3], ("t", "b"): [0.7]})
    effects_of = {task.task: [round(effect.mean or 0, 6) for effect in task.effects] for task in found(results, "a")}
    assert effects_of == {"average of all tasks": [0.25], "average": [0.1], "t": [0.4]}


def test_no_difference_is_a_positive_zero() -> None:
    results = [cell("t", method, 0, 0.5, metric="ter", higher_is_better=False) for method in ("a", "b")]
    (effect,) = found(results, "a")[0].effects
    assert f"{effect.mean:+.1f}" == "+0.0"


def test_metric_and_unit_are_those_of_the_scores() -> None:
    mean_of_two = found(TWO, "lora:4")[0]
    assert (mean_of_two.metric, mean_of_two.tasks, mean_of_two.is_average) == ("accuracy", 2, True)
    results = [
        cell("a", method, 0, 0.5, metric="f1", scores=(score("other", 3.0), score("f1", 0.5))) for method in "xy"
    ] + [cell("b", method, 0, 0.5, metric="pearson") for method in "xy"]
    assert [(task.metric, task.unit) for task in found(results, "x")] == [
        ("mean of f1, pearson", "0 to 1"),
        ("f1", "0 to 1"),
        ("pearson", ""),
    ]
