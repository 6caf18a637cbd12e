"""Sentence and sentence-pair classification and regression: the GLUE family, and a user's own data of that shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase
from typing_extensions import override

from autolora.errors import UserError
from autolora.metrics.compute import score
from autolora.tasks.base import Purpose, Task, full_precision
from autolora.tasks.scored import Scored
from autolora.training.batches import Example, TensorBatch


class _SequenceTask(Task):
    """What classification and regression share: one label a sequence."""

    names: Sequence[str] = ()  # of the labels, by id
    peft_task_type = "SEQ_CLS"
    auto_class = "AutoModelForSequenceClassification"

    def label(self, value: Any, where: str) -> int | float:
        """The training target of a row's label. Raises UserError for one that is not valid, naming `where`."""
        raise NotImplementedError

    @override
    def encode(self, rows: Any, tokenizer: PreTrainedTokenizerBase, split: str, purpose: Purpose) -> list[Example]:
        columns = [list(rows[name]) for name in self.data.columns]
        encoded = tokenizer(*columns, truncation=True, max_length=self.data.max_length)
        labels = rows[self.data.label]
        return [
            {**{key: encoded[key][i] for key in encoded}, "label": self.label(labels[i], f"split {split}, row {i + 1}")}
            for i in range(len(labels))
        ]

    @override
    def collate(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> TensorBatch:
        inputs = [{key: value for key, value in example.items() if key != "label"} for example in examples]
        batch = dict(tokenizer.pad(inputs, padding=True, return_tensors="pt"))
        batch["labels"] = torch.tensor([example["label"] for example in examples])
        return batch

    @override
    def unlabelled(self, rows: Any) -> Any:
        return rows.add_column(self.data.label, [self.names[0] if self.names else 0.0] * len(rows))

    @override
    def metrics(self, predictions: Sequence[dict[str, Any]], examples: Sequence[Example]) -> list[Scored]:
        references = [example["label"] for example in examples]
        found = [record["prediction"] for record in predictions]
        return [Scored(score(self.evaluation.metrics, found, references))]

    def logits(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        """(batch, labels), float32."""
        output = model(**{key: value for key, value in batch.items() if key != "labels"})
        logits: Tensor = output.logits
        return full_precision(logits)


class Classification(_SequenceTask):
    """Two or more classes; labels are integers from 0, or names."""

    @override
    def prepare(self, splits: Mapping[str, Any]) -> None:
        self.names = (
            list(self.data.labels)
            if self.data.labels
            else _label_names(splits[self.data.splits.train], self.data.label)
        )
        self.ids = {name: i for i, name in enumerate(self.names)}

    @override
    def head_config(self) -> dict[str, Any]:
        return {
            "num_labels": len(self.names),
            "id2label": dict(enumerate(self.names)),
            "label2id": self.ids,
            "problem_type": "single_label_classification",
        }

    @override
    def label(self, value: Any, where: str) -> int:
        if isinstance(value, str) and value in self.ids:
            return self.ids[value]
        if isinstance(value, int) and 0 <= value < len(self.names):
            return int(value)
        raise UserError(f"{where}: label {value!r} is none of {len(self.names)} labels: {', '.join(self.names[:20])}")

    @override
    def loss(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        smoothing = self.loss_settings.label_smoothing
        return F.cross_entropy(self.logits(model, batch), batch["labels"], reduction="sum", label_smoothing=smoothing)

    @override
    def predict(self, model: nn.Module, batch: TensorBatch, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        rows = self.logits(model, batch).cpu()
        return [{"prediction": int(row.argmax()), "logits": row.tolist()} for row in rows]


class Regression(_SequenceTask):
    """One real number a sequence, fitted by squared error."""

    @override
    def head_config(self) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    @override
    def label(self, value: Any, where: str) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise UserError(f"{where}: label {value!r} is not a number") from None
        if number - number != 0:
            raise UserError(f"{where}: label {value!r} is not finite")
        return number

    @override
    def loss(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        logits = self.logits(model, batch).squeeze(-1)
        return F.mse_loss(logits, batch["labels"].to(logits.dtype), reduction="sum")

    @override
    def predict(self, model: nn.Module, batch: TensorBatch, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        return [{"prediction": float(value)} for value in self.logits(model, batch).squeeze(-1).cpu()]


def _label_names(rows: Any, column: str) -> list[str]:
    """Names of the labels: the data set's own, sorted strings, or the integers from 0 to the largest."""
    names = getattr(rows.features[column], "names", None)
    if names:
        return [str(name) for name in names]
    values = set(rows[column])
    if all(isinstance(value, str) for value in values):
        return sorted(values)
    if all(isinstance(value, int) and value >= 0 for value in values) and len(values) > 1:
        return [str(i) for i in range(max(values) + 1)]
    shown = ", ".join(sorted(map(repr, values))[:5])
    raise UserError(
        f"column {column!r} holds no class labels: they must be strings or integers from 0, at least two different "
        f"ones, got {shown}; is the task 'regression'?"
    )
