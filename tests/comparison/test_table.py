"""Tables of a comparison, against rows worked by hand."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from autolora.comparison.latex import latex
from autolora.comparison.summary import as_json, differences, failures, summary
from autolora.comparison.wide import glue_wide, task_name
from autolora.errors import UserError
from autolora.lora.ranks import Ranks
from autolora.runs.results import Result
from autolora.tables import to_markdown
from tests.comparison.support import TWO, cell, cells, score

COST: dict[str, Any] = {"search_seconds": 10.0, "retrain_seconds": 5.0, "forward_passes": 100, "backward_passes": 50}


def pick(rows: list[Any], task: str, method: str) -> dict[str, Any]:
    (row,) = [row for row in rows if (row["task"], row["method"]) == (task, method)]
    return dict(row)


def test_a_mean_over_fewer_seeds_says_so_wherever_it_stands() -> None:
    found = cells({("glue/rte", "lora:4"): [0.5, 0.6, 0.7], ("glue/rte", "dora:4"): [0.9, None, None]})
    by_method = {row["method"]: row["RTE"] for row in glue_wide(found)}
    assert by_method == {"lora:4": "0.6000 ± 0.1000", "dora:4": "0.9000 (1 of 3 seeds)"}
    lines = latex(found).splitlines()
    assert "% $^{1/5}$: one seed of five has a score" in lines
    assert any(line.startswith("dora:4") and "90.0$^{1/3}$" in line and "textbf" not in line for line in lines)
    whole = cells({("glue/rte", "lora:4"): [0.5, 0.6], ("glue/rte", "dora:4"): [0.9, 0.8]})
    assert "^{" not in latex(whole)


def test_a_row_of_the_summary_is_as_worked_by_hand() -> None:
    first = cell(
        "glue/mrpc",
        "autolora",
        0,
        0.75,
        scores=(score("accuracy", 0.75), score("f1", 0.80)),
        adapter_parameters=1000,
        ranks=Ranks({"a": 3, "b": 2}, initial_rank=4),
        peak_memory_mib=900.5,
        **COST,
    )
    second = cell(
        "glue/mrpc",
        "autolora",
        1,
        0.25,
        scores=(score("accuracy", 0.25), score("f1", 0.60)),
        adapter_parameters=1301,
        ranks=Ranks({"a": 4, "b": 2}, initial_rank=4),
        peak_memory_mib=800.0,
        **{**COST, "search_seconds": 20.0, "forward_passes": 103},
    )
    assert [dict(row) for row in summary([first, second])] == [
        {
            "task": "glue/mrpc",
            "method": "autolora",
            "metric": "accuracy",
            "mean": 0.5,
            "sd": pytest.approx(math.sqrt(0.125)),
            "seeds": 2,
            "parameters": 1150,  # 1150.5, to even
            "total rank": 5.5,
            "search s": 15,
            "retrain s": 5,
            "total s": 20,
            "memory MiB": 900.5,
            "forward passes": 101.5,
            "backward passes": 50,
            "other metrics": "f1 0.7000",
        }
    ]


def test_the_other_metrics_of_entities_are_all_but_the_one_compared_by_wherever_that_stands() -> None:
    """The order of seqeval is precision, recall, f1, accuracy; methods are compared by the third."""
    names = ("precision", "recall", "f1", "accuracy")
    values = [(0.5, 0.75, 0.60, 0.9), (0.7, 0.70, 0.70, 0.8)]
    scores = [tuple(map(score, names, of_seed)) for of_seed in values]
    found = [
        cell("ner/jnlpba", "lora:4", seed, of_seed[2].value, metric="f1", scores=of_seed)
        for seed, of_seed in enumerate(scores)
    ]
    (row,) = summary(found)
    assert (row["metric"], row["mean"]) == ("f1", pytest.approx(0.65))
    assert row["other metrics"] == "precision 0.6000, recall 0.7250, accuracy 0.8500"


def test_columns_are_in_the_documented_order_and_unused_ones_left_out() -> None:
    rows = summary(cells({("a", "lora"): [0.5]}))
    assert ", ".join(rows[0]) == (
        "task, method, metric, mean, sd, seeds, parameters, total rank, search s, retrain s, total s, memory MiB, "
        "forward passes, backward passes"
    )
    assert rows[0]["sd"] is None  # one seed


def test_rows_are_in_order_of_first_appearance_with_the_average_last() -> None:
    mixed = sorted(TWO, key=lambda result: result.seed)
    tasks, methods = ["glue-mini/rte", "glue-mini/mrpc", "average"], ["lora:4", "autolora"]
    assert [(row["task"], row["method"]) for row in summary(mixed)] == [(t, m) for t in tasks for m in methods]


def test_one_task_has_no_average() -> None:
    assert [row["task"] for row in summary(TWO[:6])] == ["glue-mini/rte"] * 2
    assert {row["task"] for row in differences(TWO[:6], "lora:4")} == {"glue-mini/rte"}


def test_the_average_is_over_seeds_that_have_every_task() -> None:
    rows = summary(TWO)
    lora, auto = pick(rows, "average", "lora:4"), pick(rows, "average", "autolora")
    assert (lora["mean"], lora["seeds"]) == (pytest.approx((0.65 + 0.80) / 2), 2)  # without seed 1
    assert lora["sd"] == pytest.approx(0.15 / math.sqrt(2))
    assert (auto["mean"], auto["seeds"]) == (pytest.approx((0.61 + 0.72 + 0.775) / 3), 3)
    assert auto["metric"] == "mean of 2 tasks"


def test_a_method_without_one_of_the_tasks_has_no_average() -> None:
    row = pick(summary([*TWO, cell("glue-mini/rte", "full", 0, 0.9)]), "average", "full")
    assert (row["mean"], row["sd"], row["seeds"]) == (None, None, 0)


def test_failed_and_missing_cells_are_counted_apart() -> None:
    missing = Result("glue-mini/mrpc", "autolora", 3, "missing")
    no_number = cell("glue-mini/mrpc", "autolora", 4, math.nan)
    rows = summary([*TWO, missing, no_number])
    assert (pick(rows, "glue-mini/mrpc", "lora:4")["seeds"], pick(rows, "glue-mini/mrpc", "lora:4")["failed"]) == (2, 1)
    assert pick(rows, "glue-mini/mrpc", "autolora")["failed"] == 2
    assert pick(rows, "glue-mini/rte", "lora:4")["failed"] is None
    assert pick(rows, "average", "autolora")["failed"] == 2
    assert list(rows[0]).index("failed") == list(rows[0]).index("seeds") + 1


def test_a_method_that_only_failed_has_a_row_of_nothing() -> None:
    (row,) = summary(cells({("a", "lora"): [None, None]}))
    assert (row["mean"], row["sd"], row["seeds"], row["failed"], row["parameters"]) == (None, None, 0, 2, None)


def test_differences_are_paired_by_seed() -> None:
    rows = differences(TWO, "lora:4")
    assert [(row["task"], row["method"], row["baseline"]) for row in rows] == [
        ("glue-mini/rte", "autolora", "lora:4"),
        ("glue-mini/mrpc", "autolora", "lora:4"),
        ("average", "autolora", "lora:4"),
    ]
    limits = stats.ttest_rel([0.52, 0.64, 0.70], [0.50, 0.60, 0.70])
    interval = limits.confidence_interval(0.95)
    assert rows[0]["difference"] == pytest.approx(0.02)
    assert (rows[0]["low"], rows[0]["high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert (rows[0]["seeds"], rows[0]["p"], rows[0]["p (Holm)"]) == (3, pytest.approx(limits.pvalue), rows[0]["p"])
    assert rows[0]["verdict"] == "no difference found"
    assert (rows[1]["difference"], rows[1]["seeds"]) == (pytest.approx(-0.075), 2)  # seeds 0 and 2
    assert (rows[2]["difference"], rows[2]["seeds"]) == (pytest.approx((-0.04 - 0.025) / 2), 2)


def test_holm_is_over_the_methods_of_one_task() -> None:
    base = [0.50, 0.51, 0.49, 0.52, 0.50]
    better = [b + d for b, d in zip(base, (0.20, 0.21, 0.19, 0.22, 0.20), strict=True)]
    worse = [b - d for b, d in zip(base, (0.010, 0.014, 0.006, 0.012, 0.008), strict=True)]
    same = [b + d for b, d in zip(base, (0.01, -0.01, 0.02, -0.02, 0.001), strict=True)]
    scores: dict[tuple[str, str], list[float | None]] = {
        ("a", "base"): [*base],
        ("a", "good"): [*better],
        ("a", "bad"): [*worse],
        ("a", "even"): [*same],
        ("a", "once"): [0.9],
        ("b", "base"): [*base],
        ("b", "bad"): [*worse],
    }
    rows = differences(cells(scores), "base")
    p = {m: stats.ttest_rel(s, base).pvalue for m, s in (("good", better), ("bad", worse), ("even", same))}
    assert p["good"] < p["bad"] < p["even"]
    assert pick(rows, "a", "good")["p (Holm)"] == pytest.approx(3 * p["good"])
    assert pick(rows, "a", "bad")["p (Holm)"] == pytest.approx(2 * p["bad"])
    assert pick(rows, "b", "bad")["p (Holm)"] == pytest.approx(p["bad"])  # alone on its task
    verdicts = {row["method"]: row["verdict"] for row in rows if row["task"] == "a"}
    assert verdicts == {"good": "better", "bad": "worse", "even": "no difference found", "once": "too few seeds"}
    assert pick(differences(cells(scores), "base", alpha=p["bad"]), "a", "bad")["verdict"] == "no difference found"


def test_a_task_without_the_baseline_has_too_few_seeds() -> None:
    row = pick(differences([*TWO, cell("b", "autolora", 0, 0.5)], "lora:4"), "b", "autolora")
    assert (row["difference"], row["low"], row["p"], row["seeds"]) == (None, None, None, 0)
    assert row["verdict"] == "too few seeds"


def test_seeds_that_all_differ_alike_are_not_called_too_few() -> None:
    scores = {"base": [0.5, 0.6, 0.7], "alike": [0.6, 0.7, 0.8], "two": [0.6, 0.7, None]}
    rows = differences(cells({("t", method): found for method, found in scores.items()}), "base")
    assert [(row["method"], row["p"], row["verdict"]) for row in rows] == [
        ("alike", None, "no t-test: the same for every seed"),
        ("two", None, "too few seeds"),
    ]
    (row,) = differences(cells({("t", m): scores[m] for m in ("base", "alike")}), "base", "bootstrap")
    assert row["p"] == 0.25
    assert row["verdict"] == "no difference found"


def test_an_unknown_baseline_names_the_methods() -> None:
    with pytest.raises(UserError, match=r"lora:4, autolora; there is no 'lora'"):
        differences(TWO, "lora")
    with pytest.raises(UserError, match="there is no 'normal'"):
        differences(TWO, "lora:4", "normal")


def test_two_runs_of_one_cell_are_refused() -> None:
    with pytest.raises(UserError, match=r"glue-mini/rte, lora:4, seed 0: runs/a and runs/b"):
        summary([cell("glue-mini/rte", "lora:4", 0, 0.5, run=Path(f"runs/{name}")) for name in "ab"])


def test_failures_say_why() -> None:
    lost = Result("a", "lora", 1, "failed", reason="out of memory")
    rows = failures(
        [cell("a", "lora", 0, 0.5), lost, Result("a", "full", 0, "missing"), cell("a", "full", 1, math.nan)]
    )
    assert [tuple(row.values()) for row in rows] == [
        ("a", "lora", 1, "failed", "out of memory"),
        ("a", "full", 0, "missing", None),
        ("a", "full", 1, "success", "it has no finite score"),
    ]
    assert list(rows[0]) == ["recipe", "method", "seed", "state", "reason"]


def test_the_wide_table_has_glues_tasks_in_the_papers_order() -> None:
    more = cells({("nlg/e2e", "lora:4"): [0.5], ("glue-mini/cola", "autolora"): [0.1635]}, adapter_parameters=100)
    rows = glue_wide([*TWO, *more])
    assert list(rows[0]) == ["method", "parameters", "MRPC", "CoLA", "RTE", "nlg/e2e", "average"]
    assert list(rows[0].values()) == [
        *("lora:4", 100),
        *("0.8500 ± 0.0707 (2 of 3 seeds)", None, "0.6000 ± 0.1000", "0.5000", None),
    ]
    assert rows[1]["CoLA"] == "0.1635"
    assert "0.7833 ± 0.0764" in to_markdown(rows)


def test_two_recipes_of_one_task_are_two_columns_with_their_own_names() -> None:
    rows = glue_wide(cells({("glue/rte", "lora"): [0.5], ("glue-mini/rte", "lora"): [0.25]}))
    assert dict(rows[0]) == {
        "method": "lora",
        "parameters": None,
        "glue/rte": "0.5000",
        "glue-mini/rte": "0.2500",
        "average": "0.3750",
    }


def test_a_recipe_called_average_does_not_hide_the_average() -> None:
    results = cells({("average", "lora"): [0.5], ("b", "lora"): [0.25]})
    assert [row["mean"] for row in summary(results)] == [0.5, 0.25, 0.375]
    assert list(glue_wide(results)[0].values())[2:] == ["0.5000", "0.2500", "0.3750"]


def test_tasks_are_known_by_folder_and_name() -> None:
    names = ["glue/cola", "glue-mini/stsb", "my/glue-x/rte", "nlg-mini/e2e", "ner-mini/jnlpba", "ner/ncbi_disease"]
    assert [task_name(name) for name in names] == ["cola", "stsb", "rte", "e2e", "jnlpba", ""]
    assert [task_name(name) for name in ("cola", "mine/cola", "glue/wnli", "glue/e2e")] == [""] * 4


def test_cells_survive_json_without_their_manifests() -> None:
    ranks = Ranks({"a.query": 3}, initial_rank=8, lora_alpha=12.0, scaling="per_rank", shapes={"a.query": (5, 7)})
    full = cell(
        "glue/mrpc",
        "autolora",
        7,
        0.1 + 0.2,
        run=Path("runs/glue/x"),
        scores=(score("accuracy", 0.1 + 0.2), score("f1", None)),
        rows=({"split": "validation", "f1": 0.5},),
        adapter_parameters=10,
        trainable_parameters=12,
        ranks=ranks,
        peak_memory_mib=1.5,
        **COST,
    )
    plain = as_json([full, Result("a", "b", 0, "failed", reason="x", manifest={"seed": 0})])
    read = json.loads(json.dumps(plain, allow_nan=False))
    assert read == plain
    totals = {"initial_rank": 8, "total_rank": 3, "total_seconds": 15.0}
    assert set(read[0]) == {field.name for field in fields(Result)} - {"manifest"} | set(totals)
    assert read[0] == totals | {
        "recipe": "glue/mrpc",
        "method": "autolora",
        "seed": 7,
        "state": "success",
        "run": "runs/glue/x",
        "reason": None,
        "metric": "accuracy",
        "score": 0.1 + 0.2,
        "higher_is_better": True,
        "scores": [asdict(each) for each in full.scores],
        "rows": [{"split": "validation", "f1": 0.5}],
        "adapter_parameters": 10,
        "trainable_parameters": 12,
        "ranks": {"a.query": 3},
        "search_seconds": 10.0,
        "retrain_seconds": 5.0,
        "peak_memory_mib": 1.5,
        "forward_passes": 100,
        "backward_passes": 50,
    }
    assert [name for name, value in read[1].items() if value not in (None, [])] == [
        *("recipe", "method", "seed", "state", "reason", "higher_is_better"),
    ]
    assert (plain[0]["total_rank"], plain[0]["total_seconds"], plain[0]["run"]) == (3, 15.0, "runs/glue/x")
    assert "manifest" not in plain[1]


def test_nan_is_null_in_json() -> None:
    scores = (score("pearson", math.nan),)
    (plain,) = as_json([cell("a", "b", 0, math.nan, scores=scores, rows=({"x": math.nan},))])
    assert (plain["score"], plain["rows"]) == (None, [{"x": None}])
    assert plain["scores"] == [asdict(score("pearson", None))]


def test_no_results_are_no_rows() -> None:
    assert (summary([]), differences([], "lora"), failures([]), glue_wide([]), as_json([])) == ([],) * 5


@pytest.mark.parametrize("interval", ["t", "bootstrap"])
def test_the_same_results_give_the_same_rows(interval: str) -> None:
    assert differences(TWO, "lora:4", interval) == differences(list(TWO), "lora:4", interval)
    by_seed = sorted(TWO, key=lambda result: -result.seed)
    pairs = zip(differences(TWO, "lora:4", interval), differences(by_seed, "lora:4", interval), strict=True)
    assert all(one == other for one, other in pairs)
