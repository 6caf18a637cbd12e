"""The controls: AutoLoRA's ranks permuted, and ranks drawn at random."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest
import torch

from autolora.experiment.line import search
from autolora.methods.base import method_of
from autolora.methods.budgets import Budgeted
from autolora.methods.chance import shuffled
from tests.methods.linked import BUDGET, RANKS, built_on, learned_run

BOTH = ["shuffled", "random"]
K, SEEDS = 4, range(40)
NAMES = [f"layer.{i}.{kind}" for i in range(6) for kind in ("q", "v")]
SHAPES = {name: (8, 8) if name.endswith("q") else (8, 2) for name in NAMES}
LEARNED = dict(zip(NAMES, (4, 0, 1, 2, 3, 3, 0, 1, 2, 4, 1, 0), strict=True))


@pytest.fixture(scope="module")
def controls(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Budgeted]:
    """The two methods, by name."""
    output = tmp_path_factory.mktemp("chance")
    learned = learned_run(laboratory, output, LEARNED)
    runs = {name: built_on(laboratory, output, name, learned)[0] for name in BOTH}
    return {name: cast(Budgeted, method_of(run)) for name, run in runs.items()}


def drawn(method: Budgeted, seed: int) -> dict[str, int]:
    """The ranks of a seed; AutoLoRA's stay the same."""
    method.recipe = method.recipe.model_copy(update={"seed": seed})
    return method.allocate(SHAPES)


def of_shape(ranks: Mapping[str, int], kind: str) -> list[int]:
    return [rank for name, rank in ranks.items() if name.endswith(kind)]


@pytest.mark.parametrize("name", BOTH)
def test_the_budget_of_each_shape_stays_the_same_and_so_do_the_parameters(
    controls: Mapping[str, Budgeted], name: str
) -> None:
    method = controls[name]
    for seed in SEEDS:
        ranks = drawn(method, seed)
        assert list(ranks) == NAMES
        for kind in ("q", "v"):
            assert sum(of_shape(ranks, kind)) == sum(of_shape(LEARNED, kind))
        cost = [sum(found[name] * sum(SHAPES[name]) for name in NAMES) for found in (ranks, LEARNED)]
        assert cost[0] == cost[1]
        assert all(0 <= rank <= K for rank in ranks.values())


@pytest.mark.parametrize("name", BOTH)
def test_a_seed_always_gives_the_same_ranks_and_another_one_others(controls: Mapping[str, Budgeted], name: str) -> None:
    method = controls[name]
    torch.manual_seed(1)
    found = [drawn(method, seed) for seed in SEEDS]
    torch.manual_seed(2)
    assert [drawn(method, seed) for seed in SEEDS] == found
    assert len({tuple(ranks.values()) for ranks in found}) > 0.9 * len(SEEDS)


@pytest.mark.parametrize("name", BOTH)
def test_no_layer_is_favoured(controls: Mapping[str, Budgeted], name: str) -> None:
    method = controls[name]
    found = [drawn(method, seed) for seed in range(400)]
    for kind in ("q", "v"):
        expected = sum(of_shape(LEARNED, kind)) / 6
        for layer in (name for name in NAMES if name.endswith(kind)):
            assert sum(ranks[layer] for ranks in found) / 400 == pytest.approx(expected, abs=0.35)


def test_shuffled_ranks_are_a_permutation_within_each_shape(controls: Mapping[str, Budgeted]) -> None:
    for seed in SEEDS:
        ranks = drawn(controls["shuffled"], seed)
        for kind in ("q", "v"):
            assert Counter(of_shape(ranks, kind)) == Counter(of_shape(LEARNED, kind))


def test_random_ranks_are_others_than_autoloras(controls: Mapping[str, Budgeted]) -> None:
    found = [Counter(drawn(controls["random"], seed).values()) for seed in SEEDS]
    assert sum(counts != Counter(LEARNED.values()) for counts in found) > 0.5 * len(SEEDS)


@pytest.mark.parametrize("name", BOTH)
def test_the_two_controls_of_a_run_have_its_budget(laboratory: Path, tmp_path: Path, name: str) -> None:
    ranks = search(*built_on(laboratory, tmp_path, name, learned_run(laboratory, tmp_path)))
    assert list(ranks) == list(RANKS)
    assert ranks.total == BUDGET
    assert ranks.initial_rank == K


def test_components_are_drawn_without_replacement(laboratory: Path, tmp_path: Path) -> None:
    everything = dict.fromkeys(NAMES, K)
    run, _ = built_on(laboratory, tmp_path, "random", learned_run(laboratory, tmp_path, everything))
    assert cast(Budgeted, method_of(run)).allocate(SHAPES) == everything


MOST = dict(zip(NAMES, (4, 0, 2, 2, 4, 3, 1, 1, 2, 4, 4, 4), strict=True))  # at least what LEARNED has


def test_a_permutation_gives_no_module_more_than_it_can_have() -> None:
    seen = set()
    for seed in SEEDS:
        ranks = shuffled(LEARNED, SHAPES, seed, MOST)
        assert list(ranks) == NAMES
        assert all(ranks[name] <= MOST[name] for name in NAMES)
        for kind in ("q", "v"):
            assert Counter(of_shape(ranks, kind)) == Counter(of_shape(LEARNED, kind))
        assert ranks == shuffled(LEARNED, SHAPES, seed, MOST)
        seen.add(tuple(ranks.values()))
        free = dict.fromkeys(NAMES, K)
        assert shuffled(LEARNED, SHAPES, seed, free) == shuffled(LEARNED, SHAPES, seed)  # nothing is in the way
    assert len(seen) > 10


def test_every_permutation_that_fits_is_as_likely() -> None:
    ranks, most = {"a": 2, "b": 1, "c": 0}, {"a": 2, "b": 2, "c": 1}
    shapes = dict.fromkeys(ranks, (1, 1))
    counts = Counter(tuple(shuffled(ranks, shapes, seed, most).values()) for seed in range(3000))
    assert set(counts) == {(2, 1, 0), (2, 0, 1), (1, 2, 0), (0, 2, 1)}
    assert all(abs(count - 750) < 100 for count in counts.values())
