"""Decoding without repetitions, whatever the padding: ``NoRepetition(size, padding)``, a logits processor.

Transformers' own looks at the padding too: where that is the separator's or the end's token, as GPT-2's is, what a row
may repeat would depend on the other rows of its batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import FloatTensor, LongTensor
from transformers import LogitsProcessor
from transformers.generation.logits_process import NoRepeatNGramLogitsProcessor
from typing_extensions import override


class NoRepetition(LogitsProcessor):
    """No sequence of so many tokens comes twice, those of the input among them.

    Args:
        size: Tokens of a sequence.
        padding: How many tokens of padding stand before each input of the batch.
    """

    def __init__(self, size: int, padding: Sequence[int]) -> None:
        self.inner, self.padding = NoRepeatNGramLogitsProcessor(size), padding

    @override
    def __call__(self, input_ids: LongTensor, scores: FloatTensor) -> FloatTensor:
        beams = len(input_ids) // len(self.padding)  # of one input, one after the other
        rows = []
        for row, ids in enumerate(input_ids):
            whole = ids[None, self.padding[row // beams] :]
            rows.append(self.inner(whole, scores[row : row + 1]))
        return torch.cat(rows)  # type: ignore[return-value]
