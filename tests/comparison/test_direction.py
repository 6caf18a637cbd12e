"""A metric whose lower values are the better ones, wherever results are ranked, compared or averaged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autolora.comparison.groups import scores_by_task
from autolora.comparison.latex import latex
from autolora.comparison.outcome import outcome
from autolora.comparison.statistics import verdict
from autolora.comparison.summary import differences, summary
from autolora.comparison.wide import glue_wide
from autolora.errors import UserError
from autolora.methods.grid import best_rank
from autolora.plots.pareto import Point, front
from autolora.registry import METRICS
from autolora.report.document import write_report
from autolora.runs.results import Result
from tests.comparison.support import cell, cells

BASE = [0.50, 0.51, 0.49, 0.52, 0.50]
SHIFTS = {"fewer edits": (-0.20, -0.21, -0.19, -0.22, -0.20), "more edits": (0.10, 0.11, 0.09, 0.12, 0.10)}
SCORES: Mapping[str, list[float]] = {
    "base": BASE,
    **{name: [b + d for b, d in zip(BASE, shift, strict=True)] for name, shift in SHIFTS.items()},
}
PARAMETERS = {"base": 100, "fewer edits": 200, "more edits": 50}


def ter(recipe: str = "nlg/e2e") -> list[Result]:
    """TER of three methods over five seeds: the lower, the better."""
    return edits(recipe, SCORES)


def edits(recipe: str, scores: Mapping[str, list[float]]) -> list[Result]:
    return [
        cell(recipe, method, seed, value, metric="ter", higher_is_better=False, adapter_parameters=PARAMETERS[method])
        for method, values in scores.items()
        for seed, value in enumerate(values)
    ]


def accuracies(recipe: str = "glue/rte") -> list[Result]:
    """The same numbers as accuracies."""
    return cells({(recipe, method): [*values] for method, values in SCORES.items()})


@pytest.mark.parametrize(
    ("results", "verdicts"),
    [
        (ter(), {"fewer edits": "better", "more edits": "worse"}),
        (accuracies(), {"fewer edits": "worse", "more edits": "better"}),
    ],
    ids=["lower is better", "higher is better"],
)
def test_the_verdict_is_the_metrics_and_the_difference_keeps_its_sign(
    results: list[Result], verdicts: dict[str, str]
) -> None:
    rows = {str(row["method"]): row for row in differences(results, "base")}
    assert {method: row["verdict"] for method, row in rows.items()} == verdicts
    assert float(str(rows["fewer edits"]["difference"])) < 0 < float(str(rows["more edits"]["difference"]))


@pytest.mark.parametrize(
    ("difference", "higher_is_better", "word"),
    [(0.1, True, "better"), (-0.1, True, "worse"), (0.1, False, "worse"), (-0.1, False, "better")],
)
def test_a_verdict_needs_a_direction(difference: float, higher_is_better: bool, word: str) -> None:
    assert verdict(difference, 0.01, higher_is_better=higher_is_better) == word
    assert verdict(difference, 0.06, higher_is_better=higher_is_better) == "no difference found"


def test_the_lowest_mean_of_a_column_is_bold_in_latex_and_the_highest_beside_it() -> None:
    lines = latex([*ter(), *accuracies()]).splitlines()
    bold = {
        line.split(" & ")[0]: ["textbf" in text for text in line.split(" & ")[2:]] for line in lines if "pm" in line
    }
    assert lines[1:3] == ["% RTE: accuracy", "% nlg/e2e: ter"]
    assert bold == {"base": [False, False], "fewer edits": [False, True], "more edits": [True, False]}


def test_the_pareto_front_has_what_is_cheapest_and_lowest() -> None:
    points = [
        Point(method, tuple((float(PARAMETERS[method]), score) for score in scores))
        for method, scores in SCORES.items()
    ]
    assert [point.label for point in front(points, higher_is_better=False)] == ["more edits", "base", "fewer edits"]
    assert [point.label for point in front(points)] == ["more edits"]


def test_the_reports_front_and_axis_are_the_metrics(tmp_path: Path) -> None:
    worse = {"base": BASE, "more edits": [score + 0.3 for score in BASE]}
    dearer = [cell("nlg/e2e", "dear", 0, 0.1, metric="ter", higher_is_better=False, adapter_parameters=900)]
    write_report([*edits("nlg/e2e", worse), *dearer], tmp_path, [], "Edits")
    (found,) = re.findall(r"On the front: ([^\n\]]*)", (tmp_path / "report.md").read_text(encoding="utf-8"))
    assert [name.strip() for name in re.findall(r"([a-z ]+) \(", found)] == ["more edits", "base", "dear"]


def test_the_best_rank_of_a_grid_is_the_one_of_the_lowest_score() -> None:
    scores = {"1": 0.5, "2": 0.3, "3": 0.3, "4": None}
    assert best_rank(scores, lower=True) == 2
    assert best_rank(scores, lower=False) == 1


def test_tasks_whose_metrics_go_in_different_directions_have_no_average() -> None:
    mixed = [*ter(), *accuracies()]
    assert [task.task for task in scores_by_task(mixed)] == ["nlg/e2e", "glue/rte"]
    assert {row["task"] for row in summary(mixed)} == {"nlg/e2e", "glue/rte"}
    assert {row["task"] for row in differences(mixed, "base")} == {"nlg/e2e", "glue/rte"}
    assert list(glue_wide(mixed)[0]) == ["method", "parameters", "RTE", "nlg/e2e"]
    assert "Average" not in latex(mixed)
    assert "by_task" in {table.stem for table in outcome(mixed, "base")}


@pytest.mark.parametrize(
    ("metrics", "has_one"),
    [
        (("bleu", "meteor"), True),
        (("matthews", "accuracy"), True),
        (("cider", "bleu"), False),
        (("nist", "bleu"), False),
        (("ter", "perplexity"), False),
        (("nist", "nist"), True),
    ],
)
def test_metrics_whose_greatest_values_differ_have_no_average(metrics: tuple[str, str], has_one: bool) -> None:
    """The widest would decide it."""
    found = []
    for recipe, name in zip(("nlg/e2e", "nlg/webnlg"), metrics, strict=True):
        output = METRICS.load(name).outputs[0]
        for method, values in SCORES.items():
            for seed, value in enumerate(values):
                made = cell(recipe, method, seed, value, metric=output.name, higher_is_better=output.higher_is_better)
                found.append(replace(made, scores=(output.score(value),)))
    assert scores_by_task(found)[-1].is_average == has_one


def test_scores_of_other_metrics_or_examples_stand_in_no_table() -> None:
    """A run was evaluated otherwise since: with `eval.metrics`, with `data.limits.eval`, on corrected rows."""
    rows = {"rows": ({"split": "validation", "examples": 1500},), "manifest": measured("validation", "aa")}
    alike = [cell("glue/rte", method, 0, 0.5, **rows) for method in ("lora:4", "lora:8")]
    scores_by_task(alike)
    for change, said in (
        ({"metric": "f1"}, "accuracy on 1500 examples of validation, and f1 on 1500 examples of validation"),
        ({"rows": ({"split": "validation", "examples": 50},)}, "and accuracy on 50 examples of validation"),
        ({"manifest": measured("validation", "bb")}, "the same seed, and other rows of split 'validation'"),
    ):
        with pytest.raises(UserError, match=said):
            scores_by_task([*alike, cell("glue/rte", "dora:4", 0, 0.5, **{**rows, **change})])
    # Another seed may have other rows, where they are drawn; the training split's may be what is compared.
    other = cell("glue/rte", "lora:4", 1, 0.5, **{**rows, "manifest": measured("validation", "bb")})
    less = cell("glue/rte", "dora:4", 0, 0.5, **{**rows, "manifest": measured("train", "bb")})
    scores_by_task([*alike, other, less, cell("glue/rte", "lora:8", 1, None, metric="f1")])


def measured(split: str, found: str) -> dict[str, Any]:
    return {"stages": {"eval": {"data": {split: found}}}}


def test_tasks_of_one_direction_have_an_average_which_has_it_too() -> None:
    two = [*ter(), *ter("nlg/webnlg")]
    average = scores_by_task(two)[-1]
    assert (average.is_average, average.higher_is_better) == (True, False)
    verdicts = {row["method"]: row["verdict"] for row in differences(two, "base") if row["task"] == "average"}
    assert verdicts == {"fewer edits": "better", "more edits": "worse"}
    (best,) = [line for line in latex(two).splitlines() if line.startswith("fewer edits")]
    assert best.count("textbf") == 3


def test_a_task_where_nothing_succeeded_does_not_stand_against_an_average() -> None:
    failed = cells({("glue/cola", method): [None] for method in SCORES})
    tasks = [task.task for task in scores_by_task([*ter(), *failed, *ter("nlg/webnlg")])]
    assert tasks == ["nlg/e2e", "glue/cola", "nlg/webnlg", "average"]
