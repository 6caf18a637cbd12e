"""The table of planted ranks: sizes, means, and the gap between uniform ranks of the true ones' size and the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autolora.comparison.outcome import outcome, write_outcome
from autolora.comparison.recovered import recovery
from autolora.runs.results import Result
from tests.comparison.support import TWO, cell

TRUE = {0: 1000, 1: 2000}  # parameters by seed


def planted(method: str, seed: int, error: float, *, size: float = 1.0, auc: float | None = 0.5, **more: Any) -> Result:
    record = None if auc is None else {"auc": auc, "correlation": 2 * auc - 1, "parameters": TRUE[seed]}
    manifest = {"stages": {"eval": {"recovery": record} if record else {}}}
    given = {"metric": "relative_error", "higher_is_better": False, "manifest": manifest, **more}
    return cell("planted/mixed", method, seed, error, adapter_parameters=round(size * TRUE[seed]), **given)


RESULTS = [
    planted("oracle", 0, 0.1, auc=1.0),
    planted("oracle", 1, 0.2, auc=1.0),
    planted("oracle-uniform", 0, 0.3, size=0.98),
    planted("oracle-uniform", 1, 0.4, size=0.98),
    planted("lora-matched", 0, 0.5, size=2.0),
    planted("autolora", 0, 0.15, size=2.5, auc=0.75),
    planted("autolora", 1, 0.25, size=1.5, auc=0.25),
    planted("full", 1, 0.5, size=9.0, auc=None),
]


def by_method(results: list[Result]) -> dict[str, Any]:
    return {str(row["method"]): row for row in recovery(results)}


def test_the_gap_is_of_means_over_the_seeds_that_all_three_have() -> None:
    rows = by_method(RESULTS)
    assert [rows[name]["gap closed"] for name in ("oracle", "oracle-uniform", "autolora")] == ["100%", "0%", "75%"]
    assert rows["lora-matched"]["gap closed"] == "-100%"  # seed 0 alone: (0.3 - 0.5) / (0.3 - 0.1)
    assert rows["full"]["gap closed"] == "-50%"  # seed 1 alone
    assert rows["autolora"]["module AUC"] == pytest.approx(0.5)
    assert rows["autolora"]["rank Spearman"] == pytest.approx(0.0)
    assert rows["autolora"]["size"] == "2.00"
    assert (rows["full"]["module AUC"], rows["full"]["size"]) == (None, "9.00")


def test_uniform_ranks_of_another_size_make_no_gap() -> None:
    without = [result for result in RESULTS if result.method != "oracle-uniform"]
    assert {row["gap closed"] for row in recovery(without)} == {None}
    same = [*without, planted("lora-matched", 1, 0.4, size=0.0)]  # 1.0 on the average
    assert by_method(same)["autolora"]["gap closed"] == "83%"  # (0.45 - 0.2) / (0.45 - 0.15)


def test_where_higher_is_better_the_gap_goes_the_other_way() -> None:
    results = [
        planted("oracle", 0, 0.9, auc=1.0, higher_is_better=True),
        planted("oracle-uniform", 0, 0.5, higher_is_better=True),
        planted("lora:1", 0, 0.6, higher_is_better=True),
    ]
    assert by_method(results)["lora:1"]["gap closed"] == "25%"


def test_there_is_a_table_where_something_was_planted_only(tmp_path: Path) -> None:
    assert recovery(TWO) == []
    assert "recovery" not in {table.stem for table in outcome(TWO)}
    write_outcome(outcome(RESULTS), RESULTS, tmp_path)
    assert "gap closed" in (tmp_path / "recovery.md").read_text()
    write_outcome(outcome(TWO), TWO, tmp_path)
    assert not list(tmp_path.glob("recovery.*"))
