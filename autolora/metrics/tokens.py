"""What the metrics of tokens share: what they take, and its check.

A prediction is a pair ``(log-likelihood, hits)``: the sum of the natural logarithms of the probabilities that a model
gives to an example's reference tokens, each after those before it, and how many of them it thinks likeliest. A
reference is how many there are. ``(-12.3, 4), 5``: five tokens, four of them foreseen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Told = Sequence[float]  # the log-likelihood and the hits


def check_tokens(predictions: Sequence[Told], references: Sequence[int]) -> None:
    """Every example has tokens, a log-likelihood that a probability can have, and no more hits than tokens.

    Raises:
        ValueError: One has not.
    """
    for i, (told, tokens) in enumerate(zip(predictions, references, strict=True), 1):
        if len(told) != 2:
            raise ValueError(f"example {i}: a prediction is a log-likelihood and a number of hits, got {told!r:.60}")
        likelihood, hits = told
        if tokens < 1 or int(tokens) != tokens:
            raise ValueError(f"example {i}: a reference is a number of tokens, 1 or more, got {tokens!r}")
        if math.isnan(likelihood) or likelihood > 0:
            raise ValueError(f"example {i}: a log-likelihood is 0 or less, got {likelihood}")
        if not 0 <= hits <= tokens or int(hits) != hits:
            raise ValueError(f"example {i}: hits are a number from 0 to the {tokens} tokens, got {hits}")
