"""The benchmark of rules for ranks in short: one seed of two truths, a fifth of the steps."""

from __future__ import annotations

import pytest

from benchmarks.planted import scaled
from benchmarks.ranks import error_rows, recovery_rows, run_trials

RULES = ("uniform", "true", "count", "fisher")
STEPS = 150


@pytest.fixture(scope="module")
def results():  # type: ignore[no-untyped-def]
    mixed, flat = run_trials(("mixed",), 1, STEPS, RULES, 1), run_trials(("flat",), 1, STEPS, ("uniform", "fisher"), 1)
    return {**mixed, **flat}


def test_squeeze_beats_uniform_on_mixed_truth(results) -> None:  # type: ignore[no-untyped-def]
    (mixed,) = results["mixed"]
    assert mixed["fisher"].error < mixed["uniform"].error
    assert mixed["fisher"].auc > 0.6


def test_squeeze_is_no_worse_than_uniform_on_flat_truth(results) -> None:  # type: ignore[no-untyped-def]
    (flat,) = results["flat"]
    assert flat["fisher"].error <= flat["uniform"].error
    assert flat["fisher"].auc is None


def test_the_count_is_at_chance(results) -> None:  # type: ignore[no-untyped-def]
    (mixed,) = results["mixed"]
    assert abs(mixed["count"].auc - 0.5) < 0.2


def test_all_rules_have_one_size(results) -> None:  # type: ignore[no-untyped-def]
    for found in results.values():
        for outcome in found[0].values():
            assert 0.95 < outcome.size <= 1.0


def test_the_tables_have_a_row_for_every_rule(results) -> None:  # type: ignore[no-untyped-def]
    mixed = {"mixed": results["mixed"]}
    errors, recovered = list(error_rows(mixed, RULES)), list(recovery_rows(mixed, RULES))
    assert [row["rule"] for row in errors] == [row["rule"] for row in recovered]
    assert recovered[0]["mixed: gap closed"] == "0%"
    assert recovered[1]["mixed: AUC"] == "1.00"
    assert errors[2]["cost"] == "4"


def test_counts_are_scaled_in_proportion_within_the_budget() -> None:
    costs = {"a": 10, "b": 10, "c": 20}
    assert scaled({"a": 4, "b": 4, "c": 4}, costs, 40) == {"a": 1, "b": 1, "c": 1}
    assert scaled({"a": 8, "b": 2, "c": 1}, costs, 60) == {"a": 5, "b": 1, "c": 0}  # what is left goes where it fits
