"""What a model says of the labelled tokens of a batch: ``token_scores(logits, labels)``.

| symbol | meaning |
|---|---|
| y_t | the label at position t, -100 where there is none |
| log p_t | log softmax(logits_t)[y_t], in float32; 0 where there is no label |
| h_t | whether y_t is the arg max of logits_t |

The softmax is taken of a few positions at a time, so that no second tensor of the vocabulary's size is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autolora.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100  # label of what is not scored
AT_ONCE = 2**24  # logits of a piece, 64 MiB in float32


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
        sums = self.log_probabilities.double().sum(1).tolist()
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


def token_scores(logits: Tensor, labels: Tensor) -> TokenScores:
    """The scores of every labelled token.

    Args:
        logits: Those that predict the labels, (examples, positions, vocabulary).
        labels: (examples, positions), -100 where nothing is scored.
    """
    labelled = labels != IGNORED
    wanted, scored = labels[labelled], logits.new_zeros(labels.shape, dtype=_float32())
    hits = labelled.new_zeros(labels.shape)
    rows, size = labelled.nonzero(), max(1, AT_ONCE // logits.shape[-1])
    for start in range(0, len(rows), size):
        at = rows[start : start + size]
        piece, targets = logits[at[:, 0], at[:, 1]].float(), wanted[start : start + size]
        found = piece.gather(1, targets[:, None])[:, 0] - piece.logsumexp(1)
        scored[at[:, 0], at[:, 1]] = found
        hits[at[:, 0], at[:, 1]] = piece.argmax(1) == targets
    return TokenScores(scored, hits, labelled)


def _float32() -> Any:
    import torch

    return torch.float32
