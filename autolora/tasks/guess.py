"""The loss of guessing: that of the best prediction which is the same for every unit."""

from __future__ import annotations

import math
from collections.abc import Collection


def of_classes(counts: Collection[int], classes: int, smoothing: float = 0.0) -> float:
    """Cross-entropy of saying every time the classes' shares, -Σ q log q in nats, q = (1 - ε) share + ε / classes.

    Args:
        counts: Units of each class that there is.
        classes: Number of classes, those without a unit among them.
        smoothing: ε of label smoothing, in [0, 1).
    """
    total = sum(counts)
    shares = [*(count / total for count in counts), *[0.0] * (classes - len(counts))]
    smoothed = [(1 - smoothing) * share + smoothing / classes for share in shares]
    return -math.fsum(q * math.log(q) for q in smoothed if q > 0)


def of_numbers(numbers: Collection[float]) -> float:
    """Mean squared error of saying the mean every time: the variance.

    Args:
        numbers: At least one.
    """
    mean = math.fsum(numbers) / len(numbers)
    return math.fsum((number - mean) ** 2 for number in numbers) / len(numbers)
