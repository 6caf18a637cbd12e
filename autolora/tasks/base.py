"""The contract of a task family: load, encode, collate, model head, loss, predict, metrics.

Nothing outside a family's module asks which family it is. A family is built from the recipe's data and eval sections
and the raw splits:

    task = Classification(recipe.data, recipe.eval, splits)
    model = getattr(transformers, task.auto_class).from_pretrained(name, **task.head_config())
    examples = task.encode(splits["train"], tokenizer, "train")
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from autolora.recipe.schema import Data, Eval
from autolora.training.batches import Example, TensorBatch


class Task(ABC):
    """One task family on one data set."""

    peft_task_type: ClassVar[str]  # PEFT's name of the family, written into the adapter
    auto_class: ClassVar[str]  # transformers' auto class with this family's head

    def __init__(self, data: Data, evaluation: Eval, splits: Mapping[str, Any]) -> None:
        """splits: raw rows by split name (`datasets.Dataset`)."""
        self.data, self.evaluation = data, evaluation

    @abstractmethod
    def head_config(self) -> dict[str, Any]:
        """What the head needs of the model's config: number of labels, their names."""

    @abstractmethod
    def encode(self, rows: Any, tokenizer: PreTrainedTokenizerBase, split: str) -> list[Example]:
        """Token ids and the target of every row, in order. Raises UserError naming the split and row."""

    @abstractmethod
    def collate(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> TensorBatch:
        """A padded batch."""

    @abstractmethod
    def loss(self, model: PreTrainedModel, batch: TensorBatch) -> Tensor:
        """The losses of the batch's units, summed, as a float32 scalar."""

    def units(self, examples: Sequence[Example]) -> int:
        """What the loss is averaged over: examples here, target tokens elsewhere."""
        return len(examples)

    @abstractmethod
    def predict(self, model: PreTrainedModel, batch: TensorBatch) -> list[dict[str, Any]]:
        """One JSON-able record per example, with at least "prediction"."""

    @abstractmethod
    def metrics(self, predictions: Sequence[dict[str, Any]], examples: Sequence[Example]) -> dict[str, float]:
        """The recipe's metrics over a whole split."""
