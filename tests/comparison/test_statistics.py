"""Paired comparisons against SciPy, textbook formulas, enumeration and hand-worked cases."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from scipy import stats

from autolora.comparison.statistics import (
    Difference,
    bootstrap_interval,
    holm,
    mean,
    paired,
    sd,
    sign_flip_test,
    t_interval,
    t_test,
    verdict,
)
from autolora.errors import UserError

BASE = {0: 0.60, 1: 0.62, 2: 0.58, 3: 0.61, 4: 0.63}
MINE = {4: 0.64, 3: 0.65, 2: 0.60, 1: 0.61, 0: 0.64}  # differences by seed: 0.04, -0.01, 0.02, 0.04, 0.01
D = [0.04, -0.01, 0.02, 0.04, 0.01]


def brute_force(differences: list[float]) -> float:
    """The share of sign choices whose sum is at least as far from zero."""
    signs = list(itertools.product((1, -1), repeat=len(differences)))
    sums = [abs(math.fsum(s * d for s, d in zip(choice, differences, strict=True))) for choice in signs]
    return sum(total >= abs(math.fsum(differences)) - 1e-9 for total in sums) / len(signs)


def test_mean_and_sample_deviation_are_by_hand() -> None:
    assert mean([1.0, 2.0, 6.0]) == 3.0
    assert sd([1.0, 2.0, 6.0]) == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert (mean([0.5]), sd([0.5])) == (0.5, None)
    assert (mean([]), sd([])) == (None, None)


def test_the_t_interval_is_the_textbooks() -> None:
    # mean 0.02, squared deviations 4 + 9 + 0 + 4 + 1 = 18 (1e-4), sd = sqrt(18e-4 / 4), t(0.975, 4) = 2.776445
    reach = 2.7764451 * math.sqrt(18e-4 / 4) / math.sqrt(5)
    found = paired(MINE, BASE)
    assert (found.seeds, found.mean) == (5, pytest.approx(0.02))
    assert (found.low, found.high) == (pytest.approx(0.02 - reach), pytest.approx(0.02 + reach))


def test_interval_and_p_of_t_agree_with_scipy_at_another_confidence() -> None:
    found = paired(MINE, BASE, confidence=0.8)
    limits = stats.ttest_1samp(D, 0).confidence_interval(0.8)
    assert (found.low, found.high) == (pytest.approx(limits.low), pytest.approx(limits.high))
    assert found.p == pytest.approx(stats.ttest_1samp(D, 0).pvalue)


def test_the_difference_is_the_method_less_the_baseline() -> None:
    there, back = paired(MINE, BASE), paired(BASE, MINE)
    assert there.mean is not None
    assert there.mean > 0
    assert back.mean == pytest.approx(-there.mean)
    assert back.p == pytest.approx(there.p)
    assert back.low is not None
    assert there.high == pytest.approx(-back.low)


def test_only_seeds_in_both_count_and_their_order_does_not() -> None:
    more = {9: 100.0, **dict(reversed(MINE.items()))}
    for interval in ("t", "bootstrap"):
        assert paired(more, {8: -100.0, **BASE}, interval) == paired(MINE, BASE, interval)


@pytest.mark.parametrize("interval", ["t", "bootstrap"])
def test_fewer_than_two_seeds_have_no_interval_and_no_p(interval: str) -> None:
    assert paired({0: 1.0, 1: 2.0}, {1: 0.5}, interval) == Difference(1, 1.5, None, None, None)
    assert paired({0: 1.0}, {1: 0.5}, interval) == Difference(0, None, None, None, None)


def test_identical_scores_have_p_one_and_an_interval_at_zero() -> None:
    for interval in ("t", "bootstrap"):
        assert paired(BASE, BASE, interval) == Difference(5, 0.0, 0.0, 0.0, 1.0)


def test_a_constant_difference_has_no_t_test_but_a_sign_flip_test() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = paired({0: 0.6, 1: 0.7}, {0: 0.5, 1: 0.6})  # 0.1 both, but not to the last bit
        flipped = paired({0: 0.6, 1: 0.7}, {0: 0.5, 1: 0.6}, "bootstrap")
    assert (plain.mean, plain.low, plain.high, plain.p) == (pytest.approx(0.1), None, None, None)
    assert t_interval([0.25, 0.25]) is None
    assert t_test([1.25, 2.25], [1.0, 2.0]) is None
    assert (flipped.low, flipped.high, flipped.p) == (pytest.approx(0.1), pytest.approx(0.1), 0.5)


@pytest.mark.parametrize(
    "differences",
    [
        D,
        [0.3, -0.1, -0.2],  # a sum of zero, but for rounding
        [1 / 277, 3 / 277, -2 / 277, 0.0, 5 / 277, 4 / 277],
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
        [-0.5, 0.25],
    ],
)
def test_the_sign_flip_p_is_that_of_trying_all_signs(differences: list[float]) -> None:
    assert sign_flip_test(differences) == pytest.approx(brute_force(differences), abs=1e-12)


def test_random_differences_with_many_ties_give_the_p_of_trying_all_signs() -> None:
    generator = np.random.default_rng(3)
    for n in (3, 6, 9, 12):
        differences = [float(x) / 277 for x in generator.integers(-4, 8, n)]
        assert sign_flip_test(differences) == pytest.approx(brute_force(differences), abs=1e-12)


def test_five_seeds_all_better_have_a_sixteenth() -> None:
    assert sign_flip_test([0.1, 0.2, 0.3, 0.1, 0.4]) == pytest.approx(1 / 16)


def test_more_than_sixteen_seeds_are_sampled_and_always_alike() -> None:
    differences = [0.01 * (i % 5 - 1) for i in range(17)]
    p = sign_flip_test(differences)
    assert p == sign_flip_test(differences)
    exact = stats.permutation_test(
        (np.array(differences),),
        lambda x, axis: np.round(x.mean(axis), 12),
        permutation_type="samples",
        n_resamples=2**17,
    ).pvalue
    assert p == pytest.approx(exact, abs=0.01)


def test_the_bootstrap_is_scipys_bca_and_the_same_each_time() -> None:
    expected = stats.bootstrap(
        (np.array(D),), np.mean, n_resamples=9999, method="BCa", random_state=np.random.default_rng(0)
    ).confidence_interval
    assert bootstrap_interval(D) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert bootstrap_interval(D) == bootstrap_interval(D)
    wide, narrow = bootstrap_interval(D, 0.99), bootstrap_interval(D, 0.8)
    assert wide[0] < narrow[0] < 0.02 < narrow[1] < wide[1]


def test_the_bootstrap_falls_back_to_percentile_where_bca_is_degenerate() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bootstrap_interval([0.25, 0.25, 0.25]) == (0.25, 0.25)


def test_holm_is_worked_by_hand() -> None:
    # sorted 0.005 0.01 0.03 0.04, times 4 3 2 1: 0.02 0.03 0.06 0.04, and never less than the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_with_ties_takes_the_largest_factor_for_all() -> None:
    assert holm([0.02, 0.02, 0.02]) == pytest.approx([0.06, 0.06, 0.06])
    assert holm([0.5, 0.01, 0.5]) == pytest.approx([1.0, 0.03, 1.0])


def test_holm_passes_none_through_without_counting_it() -> None:
    assert holm([None, 0.02, None, 0.04]) == [None, pytest.approx(0.04), None, pytest.approx(0.04)]
    assert holm([None]) == [None]
    assert holm([]) == []


def test_holm_never_exceeds_one_nor_falls_below_p_nor_changes_the_order() -> None:
    p_values = [float(p) for p in np.random.default_rng(1).uniform(size=30)]
    adjusted = [p for p in holm(p_values) if p is not None]
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    by_p = [adjusted[i] for i in np.argsort(p_values)]
    assert by_p == sorted(by_p)


@pytest.mark.parametrize(
    ("difference", "p", "words"),
    [
        (0.1, 0.049, "better"),
        (-0.1, 0.049, "worse"),
        (0.1, 0.05, "no difference found"),
        (-0.1, 1.0, "no difference found"),
        (0.1, None, "too few seeds"),
        (None, None, "too few seeds"),
    ],
)
def test_the_verdict_is_in_words(difference: float | None, p: float | None, words: str) -> None:
    assert verdict(difference, p) == words


def test_the_level_of_the_verdict_can_be_chosen() -> None:
    assert verdict(0.1, 0.03, alpha=0.01) == "no difference found"


def test_an_unknown_interval_and_an_impossible_confidence_are_refused() -> None:
    with pytest.raises(UserError, match="t, bootstrap; there is no 'normal'"):
        paired(MINE, BASE, "normal")
    for confidence in (0.0, 1.0, 95.0):
        with pytest.raises(UserError, match="between 0 and 1"):
            paired(MINE, BASE, confidence=confidence)
