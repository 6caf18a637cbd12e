"""Statistics of a comparison over seeds: ``paired({0: 0.61, 1: 0.63}, {0: 0.60, 1: 0.60})``, ``holm([0.01, 0.04])``.

Two methods are compared by the differences of their scores on the same seed,

    d_s = score of the method − score of the baseline, over the n seeds s that both have.

| interval | of the mean of d | p of "the mean of d is zero" |
|---|---|---|
| t | mean ± t_{n−1} sd / √n | paired t-test |
| bootstrap | BCa, or percentile where BCa has no answer | exact test over the 2ⁿ signs of d (no p below 2 / 2ⁿ) |

Pure functions of numbers; the same numbers give the same answers (the bootstrap's generator has a fixed seed).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from autolora.errors import UserError

INTERVALS = ("t", "bootstrap")
NO_DIFFERENCE = "no difference found"
TOO_FEW = "too few seeds"
NO_SPREAD = "no t-test: the same for every seed"

_ROUNDING = 1e-12  # differences of scores closer than this are equal: 0.7 - 0.6 is 0.6 - 0.5
_RESAMPLES = 9999
_SIGNS = 2**16  # up to 16 seeds all signs are tried; beyond, so many at random, from the fixed seed
_SEED = 0


@dataclass(frozen=True)
class Difference:
    """A method less the baseline. None where there are too few seeds to say.

    Args:
        seeds: How many both have.
        mean: Of the differences, in the unit of the scores.
        low: The lower end of the mean's interval.
        high: The upper end.
        p: Of "the mean of the differences is zero", two-sided and not corrected.
    """

    seeds: int
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def paired(
    scores: Mapping[int, float], baseline: Mapping[int, float], interval: str = "t", confidence: float = 0.95
) -> Difference:
    """Compare scores by seed. Unless two seeds are in both, there is no interval and no p.

    Args:
        scores: The method's, by seed.
        baseline: The baseline's, by seed.
        interval: ``t`` or ``bootstrap``, which decides on the test too.
        confidence: Of the interval, between 0 and 1.

    Raises:
        UserError: There is no such interval, or the confidence is not between 0 and 1.
    """
    check_interval(interval)
    if not 0 < confidence < 1:
        raise UserError(
            f"the confidence of an interval is between 0 and 1, 0.95 for instance; this one is {confidence}"
        )
    seeds = sorted(scores.keys() & baseline.keys())
    first, second = [scores[seed] for seed in seeds], [baseline[seed] for seed in seeds]
    differences = [a - b for a, b in zip(first, second, strict=True)]
    if len(seeds) < 2:
        return Difference(len(seeds), mean(differences))
    if interval == "t":
        limits, p = t_interval(differences, confidence), t_test(first, second)
    else:
        limits, p = bootstrap_interval(differences, confidence), sign_flip_test(differences)
    low, high = limits or (None, None)
    return Difference(len(seeds), mean(differences), low, high, p)


def check_interval(interval: str) -> None:
    """Make sure that there is such an interval.

    Args:
        interval: What the user said.

    Raises:
        UserError: It is none of INTERVALS.
    """
    if interval not in INTERVALS:
        raise UserError(f"an interval is one of {', '.join(INTERVALS)}; there is no {interval!r}")


def mean(values: Sequence[float]) -> float | None:
    """The arithmetic mean; None of nothing."""
    return math.fsum(values) / len(values) if values else None


def sd(values: Sequence[float]) -> float | None:
    """Sample standard deviation (over n − 1); None of fewer than two values."""
    return float(np.std(np.asarray(values, dtype=float), ddof=1)) if len(values) > 1 else None


def t_interval(differences: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Student's interval of the mean of two or more differences.

    None where they are all the same and not zero: without a spread the formula would give an interval of no width, and
    two seeds that both gain one example of a small evaluation split would look certain. All zero is (0, 0).

    Args:
        differences: One for each seed.
        confidence: Between 0 and 1.
    """
    if _constant(differences):
        return (0.0, 0.0) if _zero(differences) else None
    n = len(differences)
    centre, error = float(np.mean(differences)), float(np.std(differences, ddof=1)) / math.sqrt(n)
    reach = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * error
    return centre - reach, centre + reach


def t_test(scores: Sequence[float], baseline: Sequence[float]) -> float | None:
    """Two-sided p of the paired t-test of two or more pairs.

    1.0 where all scores are the same. None (and not 0.0) where all differ by the same amount, as in `t_interval`: the
    test divides by their spread. The sign-flip test has an answer there.

    Args:
        scores: The method's, seed by seed.
        baseline: The baseline's, in the same order of seeds.
    """
    differences = [a - b for a, b in zip(scores, baseline, strict=True)]
    if _constant(differences):
        return 1.0 if _zero(differences) else None
    return float(stats.ttest_rel(scores, baseline).pvalue)


def bootstrap_interval(differences: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval of the mean of two or more differences: BCa, percentile where that is degenerate.

    With a handful of seeds it is too narrow, more so than Student's: resamples show no more than the values at hand.

    Args:
        differences: One for each seed.
        confidence: Between 0 and 1.
    """
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SciPy's, of degenerate data: handled here
            limits = stats.bootstrap(
                (np.asarray(differences, dtype=float),),
                np.mean,
                confidence_level=confidence,
                n_resamples=_RESAMPLES,
                method=method,
                random_state=np.random.default_rng(_SEED),
            ).confidence_interval
        if math.isfinite(limits.low) and math.isfinite(limits.high):
            break
    return float(limits.low), float(limits.high)


def sign_flip_test(differences: Sequence[float]) -> float:
    """Two-sided p of the permutation test of two or more differences.

    The share of the 2ⁿ choices of signs whose mean is at least as far from zero as that of `differences`. With 5 seeds
    it is at least 0.0625, so that fewer than 6 never show a difference at 5 %.

    Args:
        differences: One for each seed.
    """
    result = stats.permutation_test(
        (np.asarray(differences, dtype=float),),
        _rounded_mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=_SIGNS,
        random_state=np.random.default_rng(_SEED),
    )
    return float(result.pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction, in the order of `p_values`.

    With m values p_(1) ≤ … ≤ p_(m), the i-th becomes max over j ≤ i of min(1, (m − j + 1) p_(j)). A None stays None and
    does not count as a comparison.

    Args:
        p_values: Of the comparisons that are made together; None where one has no p.
    """
    adjusted: list[float | None] = [None] * len(p_values)
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[i] = largest
    return adjusted


def verdict(
    difference: float | None,
    p: float | None,
    alpha: float = 0.05,
    *,
    higher_is_better: bool = True,
    seeds: int | None = None,
) -> str:
    """In words what a difference of means with the adjusted `p` says at level `alpha`.

    Where there is no p: "too few seeds", or of three seeds or more `NO_SPREAD` (see `t_test`). "no difference found"
    where p ≥ alpha (which is not "no difference"), else "better" or "worse" than the baseline.

    Args:
        difference: Of the means, method less baseline.
        p: Adjusted for the number of comparisons.
        alpha: The level, between 0 and 1.
        higher_is_better: Of the metric.
        seeds: How many the difference is over; None where that is not known.
    """
    if p is None or difference is None:
        return NO_SPREAD if difference is not None and (seeds or 0) > 2 else TOO_FEW
    if p >= alpha:
        return NO_DIFFERENCE
    return "better" if (difference > 0) == higher_is_better else "worse"


def _rounded_mean(values: NDArray[np.float64], axis: int) -> Any:
    """Means of an array without the last digits, so that sums equal but for their rounding are ties."""
    return np.round(np.mean(values, axis=axis), 12)


def _constant(differences: Sequence[float]) -> bool:
    return max(differences) - min(differences) <= _ROUNDING


def _zero(differences: Sequence[float]) -> bool:
    return max(map(abs, differences)) <= _ROUNDING
