"""The mean loss of a split, against a sum over its examples one at a time."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from autolora.evaluation.loss import mean_loss
from autolora.recipe.schema import Data, Eval
from autolora.tasks.classification import Classification
from autolora.training.compute import Compute
from tests.model.tiny import LABELS, collate, logits, tiny_examples, tiny_model

TASK = Classification(
    Data(path="x"),
    Eval(),
    {"train": Dataset.from_dict({"sentence": ["a"] * LABELS, "label": list(map(str, range(LABELS)))})},
)


class OneOfSeveral(Compute):
    """A process that the others are not there for."""

    def __init__(self, number: int, processes: int) -> None:
        super().__init__("float32", cpu=True)
        self.process, self.processes = number, processes

    @override
    def sum(self, tensor: Tensor) -> Tensor:
        return tensor


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_it_is_the_mean_over_examples_without_dropout(batch_size: int) -> None:
    model, examples = tiny_model("bert", dropout=0.5), tiny_examples(10)
    compute = Compute("float32", cpu=True)
    found = mean_loss(model, TASK, examples, collate, batch_size=batch_size, compute=compute)
    model.eval()
    with torch.no_grad():
        alone = [collate([example]) for example in examples]
        losses = [F.cross_entropy(logits(model, batch), batch["labels"]) for batch in alone]
    assert found == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)


def test_the_shares_of_two_processes_add_up_to_the_whole() -> None:
    model, examples = tiny_model("bert"), tiny_examples(10)

    def share(number: int, processes: int) -> float:
        return mean_loss(model, TASK, examples, collate, batch_size=3, compute=OneOfSeveral(number, processes))

    assert share(0, 2) > 0
    assert share(1, 2) > 0
    assert share(0, 2) + share(1, 2) == pytest.approx(share(0, 1), rel=1e-6)
