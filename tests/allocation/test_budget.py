"""One budget over all layers: never exceeded, spent greedily, found by bisection."""

from __future__ import annotations

import itertools
import json
import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from autolora.allocation.budget import Budget, by_layer, choose, in_order, size, smallest
from autolora.errors import RunError, UserError


def drawn(rng: random.Random) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Values and costs of a random model; ties, negative and infinite values among them."""
    kinds = [lambda: rng.random(), lambda: float(rng.randint(0, 2)), lambda: rng.gauss(0, 5), lambda: math.inf]
    values, costs = {}, {}
    for i in range(rng.randint(1, 6)):
        kind = rng.choice(kinds[: 4 if rng.random() < 0.1 else 3])
        values[f"l{i}"] = torch.tensor([kind() for _ in range(rng.randint(0, 5))], dtype=torch.float64)
        costs[f"l{i}"] = rng.randint(1, 30)
    return values, costs


def test_a_budget_is_never_exceeded_and_nothing_more_fits() -> None:
    for seed in range(300):
        rng = random.Random(seed)
        values, costs = drawn(rng)
        full = sum(len(each) * costs[name] for name, each in values.items())
        limit = rng.randint(0, full + 10)
        kept = choose(values, costs, limit)
        assert list(kept) == list(values)
        assert all(list(each) == sorted(set(each)) for each in kept.values())
        assert size(kept, costs) <= limit
        left = limit - size(kept, costs)
        assert not [name for name, each in values.items() if len(kept[name]) < len(each) and costs[name] <= left]
        if limit >= full:
            assert size(kept, costs) == full


def test_within_a_layer_the_best_are_kept() -> None:
    for seed in range(60):
        rng = random.Random(seed)
        values, costs = drawn(rng)
        kept = choose(values, costs, rng.randint(0, 100))
        for name, each in values.items():
            dropped = [each[i] for i in range(len(each)) if i not in kept[name]]
            assert not kept[name] or not dropped or min(each[list(kept[name])]) >= max(dropped)


def test_where_costs_are_equal_it_is_the_best_sum() -> None:
    rng = random.Random(0)
    values = {name: torch.tensor([rng.random() for _ in range(3)], dtype=torch.float64) for name in "abc"}
    kept = choose(values, dict.fromkeys(values, 10), 45)
    found = sum(float(values[name][list(each)].sum()) for name, each in kept.items())
    every = torch.cat(list(values.values())).tolist()
    assert found == pytest.approx(max(sum(four) for four in itertools.combinations(every, 4)))


def test_what_no_longer_fits_is_skipped_and_value_counts_by_parameter() -> None:
    values = {"wide": torch.tensor([10.0, 9.0]), "narrow": torch.tensor([4.0, 0.1])}
    assert choose(values, {"wide": 10, "narrow": 3}, 14) == {"wide": (0,), "narrow": (0,)}
    assert in_order(values, {"wide": 10, "narrow": 3})[0] == ("narrow", 0)


def test_ties_go_by_the_models_order() -> None:
    values = {"b": torch.ones(2), "a": torch.ones(2)}
    assert choose(values, {"b": 1, "a": 1}, 3) == {"b": (0, 1), "a": (0,)}


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(RunError, match=r"^a: a component's score is not a number: the training has diverged$"):
        choose({"a": torch.tensor([1.0, math.nan])}, {"a": 1}, 3)


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        *[(0.5, 50), (0.1, 10), (1, 100), ({"fraction": 0.29}, 29), ({"parameters": 33}, 33), ({"rank": 2}, 20)],
        *[(np.float32(0.5), 50), ({"parameters": np.int64(33)}, 33)],
    ],
)
def test_a_budget_says_how_many_parameters(given: Any, limit: int) -> None:
    assert Budget.of(given).limit({"a": 3, "b": 7}, 100) == limit
    assert Budget.of(Budget.of(given)).limit({"a": 3, "b": 7}, 100) == limit
    json.dumps(Budget.of(given).given)  # as ranks.json has it


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (0, "budget fraction: must be a number above 0 and up to 1, got 0"),
        (1.5, "budget fraction: must be a number above 0 and up to 1, got 1.5"),
        (True, "budget fraction: must be a number above 0 and up to 1, got True"),
        ("half", "budget fraction: must be a number above 0 and up to 1, got 'half'"),
        ({"rank": 0}, "budget rank: must be a whole number from 1, got 0"),
        ({"parameters": 2.5}, "budget parameters: must be a whole number from 1, got 2.5"),
        ({"tolerance": -1}, "budget tolerance: must be a number above 0, got -1"),
        ({"tolerance": math.nan}, "budget tolerance: must be a number above 0, got nan"),
        ({"ranks": 1}, "a budget is one of fraction, parameters, rank, tolerance, got 'ranks'"),
        ({}, "a budget is one of fraction, parameters, rank, tolerance, got none"),
        ({"rank": 1, "fraction": 0.5}, "a budget is one of .*, got {'fraction': 0.5, 'rank': 1}"),
    ],
)
def test_what_is_no_budget_is_refused(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        Budget.of(given)


def test_bisection_finds_the_smallest_beginning_that_is_allowed() -> None:
    for seed in range(40):
        rng = random.Random(seed)
        values = {f"l{i}": torch.rand(4, generator=torch.Generator().manual_seed(seed + i)) for i in range(5)}
        costs = {name: rng.randint(1, 9) for name in values}
        order = in_order(values, costs)
        calls = []

        def rise(kept: Any, calls: list[Any] = calls, full: int = len(order)) -> float:
            calls.append(kept)
            return float(full - sum(map(len, kept.values()))) ** 2

        allowed = rng.uniform(-1, 500)
        kept = smallest(values, costs, allowed, rise)
        best = next((j for j in range(1, len(order)) if (len(order) - j) ** 2 <= allowed), len(order))
        assert kept == by_layer(order[:best], values)
        assert len(calls) <= 5
