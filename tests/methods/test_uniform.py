"""Uniform LoRA, and the ranks that spend a budget as evenly as they can."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from autolora.errors import UserError
from autolora.experiment.line import search
from autolora.lora.ranks import Ranks
from autolora.methods.base import method_of
from autolora.methods.budgets import nearest_uniform
from tests.laboratory import tiny_run
from tests.methods.linked import LAYERS, built_on, learned_run, spent

COSTS = {"equal": [[5] * 6, [1] * 7], "unequal": [[7, 3] * 3, [4, 2, 2, 9, 9, 9], [10, 6, 6], [8]]}


def named(costs: list[int]) -> dict[str, int]:
    return {f"layer.{i}": cost for i, cost in enumerate(costs)}


def price(ranks: Mapping[str, int], costs: Mapping[str, int]) -> int:
    return sum(rank * costs[name] for name, rank in ranks.items())


def dearest_within(costs: Mapping[str, int], budget: int) -> int:
    """The largest price within a budget of any ranks that differ by at most 1, by trying them all."""
    best = 0
    for low in range(budget // sum(costs.values()) + 2):
        for ranks in itertools.product((low, low + 1), repeat=len(costs)):
            found = price(dict(zip(costs, ranks, strict=True)), costs)
            best = max(best, found) if found <= budget else best
    return best


@pytest.mark.parametrize(
    ("costs", "budget", "ranks"),
    [
        ([1, 1, 1, 1], 8, [2, 2, 2, 2]),
        ([1, 1, 1, 1], 10, [2, 3, 2, 3]),
        ([64, 64, 64, 64], 64 * 7, [1, 2, 2, 2]),
        ([64, 64, 64, 64], 64 * 7 + 63, [1, 2, 2, 2]),
        ([1, 1, 1], 0, [0, 0, 0]),
        ([1, 1, 1, 1, 1], 2, [0, 0, 1, 0, 1]),
        ([3], 14, [4]),
        ([5, 3, 3], 11 + 7, [1, 2, 2]),  # 6 of the 7; one of 5 would be less, 5 and 3 too much
        ([5, 3, 3], 11 + 8, [2, 1, 2]),
    ],
)
def test_known_cases(costs: list[int], budget: int, ranks: list[int]) -> None:
    assert list(nearest_uniform(named(costs), budget).values()) == ranks


@pytest.mark.parametrize("costs", COSTS["equal"])
def test_equal_costs_meet_every_whole_budget_exactly(costs: list[int]) -> None:
    for total in range(4 * len(costs)):
        ranks = nearest_uniform(named(costs), total * costs[0])
        assert sum(ranks.values()) == total


@pytest.mark.parametrize("costs", COSTS["unequal"])
def test_no_ranks_that_are_as_even_spend_more_of_a_budget(costs: list[int]) -> None:
    for budget in range(2 * sum(costs) + 2):
        found = price(nearest_uniform(named(costs), budget), named(costs))
        assert found == dearest_within(named(costs), budget)


def test_the_same_holds_for_costs_drawn_at_random() -> None:
    rng = random.Random(0)
    for _ in range(60):
        kinds = [rng.randint(1, 12) for _ in range(rng.randint(1, 3))]
        costs = named([rng.choice(kinds) for _ in range(rng.randint(1, 7))])
        budget = rng.randint(0, 3 * sum(costs.values()))
        ranks = nearest_uniform(costs, budget)
        assert list(ranks) == list(costs)
        assert max(ranks.values()) - min(ranks.values()) <= 1
        assert price(ranks, costs) == dearest_within(costs, budget) <= budget


@pytest.mark.parametrize(
    ("costs", "budget", "most", "ranks"),
    [
        ([1, 1, 1, 1], 10, [9, 9, 9, 9], [2, 3, 2, 3]),  # as without
        ([1, 1, 1, 1], 8, [0, 4, 4, 4], [0, 2, 3, 3]),
        ([1, 1, 1, 1], 8, [1, 4, 4, 0], [1, 3, 4, 0]),
        ([1, 1, 1, 1], 8, [1, 2, 9, 0], [1, 2, 5, 0]),
        ([1, 1, 1], 7, [2, 2, 3], [2, 2, 3]),
        ([1, 1, 1], 2, [0, 0, 9], [0, 0, 2]),
        ([5, 3, 3], 22, [1, 9, 9], [1, 2, 3]),
        ([5, 3, 3], 22, [1, 2, 2], [1, 2, 2]),  # there are no more
        ([5, 3, 3], 9, [1, 0, 1], [1, 0, 1]),
    ],
)
def test_what_a_module_cannot_take_goes_to_the_others(
    costs: list[int], budget: int, most: list[int], ranks: list[int]
) -> None:
    assert list(nearest_uniform(named(costs), budget, named(most)).values()) == ranks


def test_capped_ranks_are_even_and_leave_less_than_a_component_that_is_there() -> None:
    rng = random.Random(1)
    for _ in range(300):
        kinds = [rng.randint(1, 12) for _ in range(rng.randint(1, 3))]
        costs = named([rng.choice(kinds) for _ in range(rng.randint(1, 7))])
        most = {name: rng.choice([0, 1, 2, 5, 8]) for name in costs}
        budget = rng.randint(0, price(most, costs))
        ranks = nearest_uniform(costs, budget, most)
        assert list(ranks) == list(costs)
        assert all(0 <= ranks[name] <= most[name] for name in costs)
        plain = nearest_uniform(costs, budget)
        if all(plain[name] <= most[name] for name in costs):
            assert ranks == plain
            continue
        left = budget - price(ranks, costs)
        room = [name for name in costs if ranks[name] < most[name]]
        assert 0 <= left < min((costs[name] for name in room), default=1)
        if len(set(costs.values())) == 1 and room:
            assert max(ranks.values()) <= min(ranks[name] for name in room) + 1


@pytest.mark.parametrize("costs", [*COSTS["equal"], *COSTS["unequal"]])
def test_the_larger_ranks_of_modules_of_one_cost_lie_evenly(costs: list[int]) -> None:
    for budget in range(sum(costs)):
        ranks = nearest_uniform(named(costs), budget)
        for cost in set(costs):
            of_cost = [ranks[name] for name, each in named(costs).items() if each == cost]
            places = [i for i, rank in enumerate(of_cost) if rank > min(ranks.values())]
            ring = [*places, *(place + len(of_cost) for place in places[:1])]
            gaps = [after - before for before, after in itertools.pairwise(ring)]
            assert not gaps or max(gaps) - min(gaps) <= 1


def test_uniform_lora_has_its_size_everywhere_and_searches_for_nothing(laboratory: Path, tmp_path: Path) -> None:
    run, context = tiny_run(laboratory, tmp_path, "lora:3")
    ranks = search(run, context)
    shapes = dict.fromkeys(LAYERS, (32, 32))
    assert ranks == Ranks(dict.fromkeys(LAYERS, 3), initial_rank=4, lora_alpha=16.0, shapes=shapes)
    assert Ranks.load(run.path / "search" / "ranks.json") == ranks
    assert spent(run, "search") == {"seconds": 0.0, "forward_passes": 0, "backward_passes": 0}


def test_uniform_lora_without_a_size_is_refused(laboratory: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"method 'lora' needs a size: lora:4, or method\.size in "):
        search(*tiny_run(laboratory, tmp_path, "lora"))


def test_matched_ranks_add_up_to_autoloras(laboratory: Path, tmp_path: Path) -> None:
    learned = learned_run(laboratory, tmp_path)
    ranks = search(*built_on(laboratory, tmp_path, "lora-matched", learned))
    assert list(ranks.values()) == [1, 2, 2, 2]
    assert list(ranks) == LAYERS


def test_matched_parameters_never_exceed_autoloras_where_layers_differ(laboratory: Path, tmp_path: Path) -> None:
    learned = learned_run(laboratory, tmp_path, {"wide": 3, "narrow": 1, "thin": 4})
    run, _ = built_on(laboratory, tmp_path, "lora-matched", learned)
    shapes = {"wide": (8, 8), "narrow": (8, 3), "thin": (8, 3)}
    costs, budget = {"wide": 16, "narrow": 11, "thin": 11}, 3 * 16 + 5 * 11
    ranks = method_of(run).allocate(shapes)  # type: ignore[attr-defined]
    assert price(ranks, costs) == dearest_within(costs, budget) == 2 * 38 + 16 + 11


def test_a_budget_without_autoloras_run_is_refused(laboratory: Path, tmp_path: Path) -> None:
    run, context = tiny_run(laboratory, tmp_path, "lora-matched")
    with pytest.raises(UserError, match=r"builds on a run of autolora .* autolora compare RECIPE --methods lora-mat"):
        search(run, context)
