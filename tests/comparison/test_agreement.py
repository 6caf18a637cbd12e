"""Agreement of ranks: hand-worked values, SciPy's, and levels by chance that can be computed."""

from __future__ import annotations

import math
from itertools import combinations, permutations

import numpy as np
import pytest
from scipy import stats

from autolora.comparison.agreement import Agreement, agreement, component_agreement


def ranks(*values: int, projections: str = "q") -> dict[str, int]:
    """Ranks of modules, layer by layer."""
    places = [(i // len(projections), projections[i % len(projections)]) for i in range(len(values))]
    return {f"h.{layer}.attn.{name}": value for (layer, name), value in zip(places, values, strict=True)}


def found(*runs: dict[str, int], draws: int = 1000) -> Agreement:
    result = agreement(runs, draws)
    assert result is not None
    return result


def test_values_worked_by_hand() -> None:
    result = found(ranks(1, 2, 3, 4), ranks(2, 1, 4, 3))
    assert (result.runs, result.modules) == (2, 4)
    assert result.spearman.value == pytest.approx(1 - 6 * 4 / (4 * 15))  # Σ d² = 4
    assert result.jaccard.value == 1.0  # both have modules 2 and 3 above their mean of 2.5
    assert result.overlap.value == pytest.approx((1 + 1 + 3 + 3) / (2 + 2 + 4 + 4))
    other = found(ranks(1, 2, 3, 4), ranks(4, 1, 4, 3))
    assert other.jaccard.value == pytest.approx(1 / 3)  # {2, 3} and {0, 2}: the mean of the second is 3


def test_spearman_is_scipys_mean_over_pairs_with_ties() -> None:
    generator = np.random.default_rng(1)
    runs = [ranks(*map(int, generator.integers(0, 5, 12))) for _ in range(4)]
    pairs = [stats.spearmanr(list(a.values()), list(b.values())).statistic for a, b in combinations(runs, 2)]
    result = found(*runs)
    assert result.spearman.value == pytest.approx(np.mean(pairs))
    assert result.spearman_in_projection.value == result.spearman.value


def test_the_chance_level_is_that_of_all_permutations() -> None:
    first, second = [1, 2, 2, 5, 7], [3, 1, 4, 4, 0]
    result = found(ranks(*first), ranks(*second), draws=20_000)
    every = [stats.spearmanr(first, other).statistic for other in permutations(second)]
    assert result.spearman.chance == pytest.approx(0.0, abs=0.02)
    assert result.spearman.high == pytest.approx(np.quantile(every, 0.95), abs=0.03)
    assert result.spearman.p == pytest.approx(np.mean([r >= result.spearman.value - 1e-12 for r in every]), abs=0.02)
    overlaps = [sum(map(min, first, other)) / sum(map(max, first, other)) for other in permutations(second)]
    assert result.overlap.chance == pytest.approx(np.mean(overlaps), abs=0.01)


def test_the_chance_level_of_jaccard_is_hypergeometric() -> None:
    first, second = ranks(9, 9, 9, 0, 0, 0, 0, 0), ranks(0, 0, 0, 0, 0, 0, 9, 9)  # 3 and 2 of 8 above the mean
    result = found(first, second, draws=20_000)
    exact = sum(stats.hypergeom.pmf(c, 8, 3, 2) * c / (5 - c) for c in range(3))
    assert result.jaccard.value == 0.0
    assert result.jaccard.chance == pytest.approx(exact, abs=0.01)
    assert result.jaccard.p == 1.0


def test_equal_rank_maps_are_far_from_chance() -> None:
    result = found(*[ranks(*range(12))] * 5)
    for measure in (result.spearman, result.jaccard, result.overlap):
        assert measure.value == pytest.approx(1.0)
        assert measure.chance < measure.high < 1
        assert measure.p == pytest.approx(1 / 1001)


def test_agreement_on_the_projection_alone_is_chance_within_projections() -> None:
    generator = np.random.default_rng(0)
    runs = [
        ranks(*(int(generator.integers(0, 3)) + 5 * (i % 2) for i in range(24)), projections="qv") for _ in range(5)
    ]
    result = found(*runs)
    assert result.spearman.p == pytest.approx(1 / 1001)
    assert result.spearman_in_projection.chance > 0.5
    assert result.spearman_in_projection.p > 0.05


def test_runs_with_one_rank_everywhere_and_lone_runs_have_no_agreement() -> None:
    assert agreement([]) is None
    assert agreement([ranks(1, 2, 3)]) is None
    assert agreement([ranks(4, 4, 4), ranks(4, 4, 4)]) is None
    assert agreement([ranks(4, 4, 4), ranks(1, 2, 3)]) is None
    assert agreement([{"a.0": 1}, {"b.0": 2}]) is None
    assert found(ranks(4, 4, 4), ranks(1, 2, 3), ranks(1, 2, 3)).runs == 2


def test_only_modules_that_all_runs_have_count_whatever_their_order() -> None:
    first = ranks(1, 2, 3, 4)
    second = {"h.9.attn.q": 8, **dict(reversed(first.items()))}
    result = found(first, second)
    assert result.modules == 4
    assert result.spearman.value == pytest.approx(1.0)


def test_the_same_runs_give_the_same_numbers() -> None:
    assert found(ranks(1, 3, 2, 4), ranks(1, 2, 4, 3)) == found(ranks(1, 3, 2, 4), ranks(1, 2, 4, 3))


def test_component_agreement_pools_the_modules_and_is_at_chance_for_random_ones() -> None:
    first, second = {"a": {0, 1}, "b": {2}}, {"a": {1, 2}, "b": {2, 3}}
    result = component_agreement([(first, second)], 4, draws=20_000)
    assert result is not None
    assert result.value == pytest.approx(2 / 5)
    exact = sum(
        stats.hypergeom.pmf(i, 4, 2, 2) * stats.hypergeom.pmf(j, 4, 1, 2) * (i + j) / (7 - i - j)
        for i in range(3)
        for j in range(2)
    )
    assert result.chance == pytest.approx(exact, abs=0.01)
    assert 0 < result.p <= 1
    assert not math.isnan(result.high)


def test_component_agreement_is_a_mean_over_seeds_and_none_of_nothing() -> None:
    kept = {"a": {0}}
    result = component_agreement([(kept, kept), (kept, {"a": {1}})], 4)
    assert result is not None
    assert result.value == 0.5
    assert component_agreement([], 4) is None
    assert component_agreement([({"a": set()}, {"a": set()})], 4) is None
