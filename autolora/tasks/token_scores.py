"""What a model says of the labelled tokens of a batch, as `autolora.tasks.token_loss.token_scores` gives it.

| symbol | meaning |
|---|---|
| y_t | the label at position t, -100 where there is none |
| log p_t | log softmax(logits_t)[y_t], in float32; 0 where there is no label |
| h_t | whether y_t is the arg max of logits_t |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autolora.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TokenScores:
    """Of a batch.

    Args:
        log_probabilities: log p_t, (examples, positions of the labels), float32.
        hits: h_t, booleans of that shape.
        labelled: Where there are labels, likewise.
    """

    log_probabilities: Tensor
    hits: Tensor
    labelled: Tensor

    def records(self) -> list[dict[str, Any]]:
        """For each example its "log_likelihood" (summed in float64), "hits" and "tokens".

        Raises:
            RunError: A log-likelihood is not finite.
        """
        sums = self.log_probabilities.cpu().double().sum(1).tolist()
        hits, tokens = self.hits.sum(1).tolist(), self.labelled.sum(1).tolist()
        if not all(map(math.isfinite, sums)):
            raise RunError(
                "the log-likelihood of a reference is not finite: the training has diverged; lower its learning rate, "
                "and start a new run"
            )
        return [
            {"log_likelihood": min(likelihood, 0.0), "hits": hit, "tokens": count}
            for likelihood, hit, count in zip(sums, hits, tokens, strict=True)
        ]
