"""The contract of a task family: load, encode, collate, model head, loss, predict, metrics.

Nothing outside a family's module asks which family it is. A family is built from the recipe's data and eval sections
and the raw splits:

    task = Classification(recipe.data, recipe.eval, splits)
    model = getattr(transformers, task.auto_class).from_pretrained(name, **task.head_config())
    examples = task.encode(splits["train"], tokenizer, "train")
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from autolora.errors import UserError
from autolora.recipe.schema import Data, Eval, Loss
from autolora.report.tables import Row
from autolora.training.batches import Example, TensorBatch

WHOLE = "all"


class Task(ABC):
    """One task family on one data set."""

    peft_task_type: ClassVar[str]  # PEFT's name of the family, written into the adapter
    auto_class: ClassVar[str]  # transformers' auto class with this family's head
    new_head: ClassVar[bool] = True  # whether that class adds a head which the checkpoint lacks, and which is trained
    headline_metric: ClassVar[str | None] = None  # column that methods are compared by; None: the first metric's
    part_column: ClassVar[str | None] = None  # column of the table that tells a split's parts, WHOLE for all of it
    predicts_training: ClassVar[bool] = True  # whether training examples can be predicted as they are, and scored
    tokenizer_options: ClassVar[Mapping[str, Any]] = {}  # what the tokenizer must be loaded with

    def __init__(
        self,
        data: Data,
        evaluation: Eval,
        splits: Mapping[str, Any],
        loss: Loss = Loss(),  # noqa: B008  # it is frozen
    ) -> None:
        """splits: raw rows by split name (`datasets.Dataset`)."""
        self.data, self.evaluation, self.loss_settings = data, evaluation, loss
        self.prepare(splits)

    def prepare(self, splits: Mapping[str, Any]) -> None:  # noqa: B027  # most families have nothing to do here
        """Take from the raw splits what the family keeps of them: the names of the labels, for instance."""

    @classmethod
    def text_columns(cls, data: Data) -> tuple[str, ...]:
        """The columns to be read as text, whatever they look like."""
        return data.columns

    @classmethod
    def check_rows(cls, rows: Any, data: Data, split: str) -> None:
        """Raises UserError where a split's columns do not hold what this family needs. No cell is null here."""
        for name in data.columns:
            if getattr(rows.features[name], "dtype", "") not in ("string", "large_string"):
                raise UserError(f"split {split!r}: column {name!r} must be text, it holds {rows.features[name]}")

    @abstractmethod
    def head_config(self) -> dict[str, Any]:
        """What the head needs of the model's config: number of labels, their names."""

    def longest(self, examples: Sequence[Example]) -> int:
        """Tokens of the longest sequence that the model may get to see."""
        return max(len(example["input_ids"]) for example in examples)

    @abstractmethod
    def encode(self, rows: Any, tokenizer: PreTrainedTokenizerBase, split: str) -> list[Example]:
        """Token ids and the target of every row, in order. Raises UserError naming the split and row."""

    def unlabelled(self, rows: Any) -> Any:
        """The rows with some label or other, so that `encode` takes them; for families with submission files."""
        raise UserError("--submission: only classification and regression tasks have submission files")

    def grouped(self, rows: Any) -> list[Any]:
        """The examples of an evaluation split as `truth` and `metrics` take them, each with its raw "input", without a
        tokenizer. Families whose outputs may come from elsewhere have this, and `key`."""
        raise UserError("outputs of other systems can be scored for generation tasks only")

    def key(self, value: Any) -> str:
        """What two writings of one raw input have in common."""
        return str(value)

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
    def predict(
        self, model: PreTrainedModel, batch: TensorBatch, tokenizer: PreTrainedTokenizerBase
    ) -> list[dict[str, Any]]:
        """One JSON-able record per example, with at least "prediction"."""

    def truth(self, example: Example) -> dict[str, Any]:
        """What stands beside an example's prediction in the predictions file: JSON-able, enough to score it again."""
        return {"reference": example["label"]}

    @abstractmethod
    def metrics(self, predictions: Sequence[dict[str, Any]], examples: Sequence[Example]) -> list[Row]:
        """The recipe's metrics: one row of the table, or one for each part of the split."""

    def headline(self, rows: Sequence[Row]) -> tuple[str, float | None]:
        """The metric that methods are compared by, and its value, from the rows of the metrics table: the recipe's
        first one over whole splits, averaged over the evaluation splits; None where it has no value."""
        wanted = self.headline_metric or self.evaluation.metrics[0]
        name = next(column for column in rows[0] if column.startswith(wanted))
        whole = [row[name] for row in rows if row.get(self.part_column or "", WHOLE) == WHOLE]
        values = [float(value) for value in whole if isinstance(value, int | float) and math.isfinite(value)]
        return name, sum(values) / len(values) if values and len(values) == len(whole) else None


def full_precision(logits: Tensor) -> Tensor:
    """Logits of a half-precision pass as float32, in which losses and predictions are computed; others as they are."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
