"""The data of a planted truth as rows: random words, and for every word the numbers that the teacher gives.

    planted_rows("planted:mixed@3")["train"][0]
    {"words": ["w7", "w31", …], "label": ["0.123 -0.45 …", …], "base": ["0.11 -0.4 …", …]}

``base`` is what the model says before anything is learned; the error is measured in its. Numbers are computed in double
precision and written with nine digits, so that they are the same text whatever the number of threads.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from transformers import BertForTokenClassification

from autolora.planted.checkpoint import words_of
from autolora.planted.kinds import kind_and_seed
from autolora.planted.truth import Truth, plant

Row = dict[str, list[str]]

EXAMPLES = {"train": 1024, "validation": 1024}
COLUMNS = ("words", "label", "base")
AT_ONCE = 256  # examples of a forward pass
DIGITS = 9


def planted_rows(name: str) -> dict[str, list[Row]]:
    """The rows by split.

    Args:
        name: Of the model that they are for, ``planted:mixed@3``.

    Raises:
        UserError: It is no such name.
    """
    kind, seed = kind_and_seed(name)
    truth = plant(kind, seed)
    return {split: _rows(truth, count, split) for split, count in EXAMPLES.items()}


def _rows(truth: Truth, count: int, split: str) -> list[Row]:
    words, tokens = words_of(truth.size), truth.tokens(count, split)
    said = (_numbers(model, tokens) for model in (truth.teacher, truth.base))
    return [
        dict(zip(COLUMNS, ([words[i] for i in row], *outputs), strict=True))
        for row, *outputs in zip(tokens.tolist(), *said, strict=True)
    ]


@torch.no_grad()
def _numbers(model: BertForTokenClassification, tokens: Tensor) -> list[list[str]]:
    """For every example a text of numbers for each token."""
    double = copy.deepcopy(model).cpu().double()
    outputs = torch.cat([double(input_ids=part).logits for part in torch.split(tokens, AT_ONCE)])
    return [[" ".join(f"{x:.{DIGITS}g}" for x in token) for token in example] for example in outputs.tolist()]
