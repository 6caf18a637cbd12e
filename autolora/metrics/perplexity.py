"""Perplexity: ``perplexity([(-math.log(8), 1)], [3])`` gives ``{"perplexity": 2.0}``.

exp(-Σ_i ℓ_i / Σ_i n_i), where ℓ_i is the log-likelihood of example i's n_i reference tokens: over all tokens alike, so
that long references count for more, and no batch size has a bearing. 1 is perfect; a model that guesses among V tokens
has V. It depends on the tokenizer: compare models of one tokenizer only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from autolora.metrics.base import Metric, Output
from autolora.metrics.tokens import Told, check_tokens


def perplexity(predictions: Sequence[Told], references: Sequence[int]) -> dict[str, float]:
    """The exponential of the mean negative log-likelihood of a token; infinite where that is beyond floating point."""
    check_tokens(predictions, references)
    mean = -math.fsum(likelihood for likelihood, _ in predictions) / sum(references)
    try:
        return {"perplexity": math.exp(mean)}
    except OverflowError:
        return {"perplexity": math.inf}


METRIC = Metric(
    "perplexity",
    perplexity,
    (Output("perplexity", higher_is_better=False, low=1.0, high=None),),
    check=check_tokens,
    takes="tokens",
)
