"""Sentence and sentence-pair classification and regression: the GLUE family, and a user's own data of that shape."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase
from typing_extensions import override

from autolora.data.labels import check, ids, settle_for
from autolora.data.splits import Place
from autolora.errors import UserError
from autolora.metrics.compute import score
from autolora.model.fit import takes_inputs
from autolora.recipe.schema import Data
from autolora.tasks.base import Purpose, Task, full_precision
from autolora.tasks.encoding import Packer, beginning, columns_of, in_batches, separator
from autolora.tasks.scored import Scored
from autolora.training.batches import Example, TensorBatch


class _SequenceTask(Task):
    """What classification and regression share: one label a sequence."""

    peft_task_type = "SEQ_CLS"
    auto_class = "AutoModelForSequenceClassification"

    def label(self, value: Any, where: str) -> int | float:
        """The training target of a row's label. Raises UserError for one that is not valid, naming `where`."""
        raise NotImplementedError

    @override
    def encode(self, rows: Any, tokenizer: PreTrainedTokenizerBase, split: str, purpose: Purpose) -> list[Example]:
        size, longest = len(self.data.columns), self.data.max_length
        examples: list[Example] = []
        pack, between = Packer(), separator(tokenizer) if size == 2 else ""
        for batch in in_batches(columns_of(rows, [*self.data.columns, self.data.label]), size):
            texts = [[beginning(row[i], tokenizer, longest) for row in batch] for i in range(size)]
            texts[1:] = [[f"{between}{text}" for text in second] for second in texts[1:]]
            encoded = tokenizer(*texts, truncation=True, max_length=longest)
            for i, row in enumerate(batch):
                label = self.label(row[-1], f"split {split}, row {len(examples) + 1}")
                examples.append(pack({**{key: encoded[key][i] for key in encoded}, "label": label}))
        return examples

    @override
    def collate(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> TensorBatch:
        inputs = [{key: value for key, value in example.items() if key != "label"} for example in examples]
        batch = dict(tokenizer.pad(inputs, padding=True, padding_side="right", return_tensors="pt"))
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
        output = model(**takes_inputs(model, {key: value for key, value in batch.items() if key != "labels"}))
        logits: Tensor = output.logits
        return full_precision(logits)


class Classification(_SequenceTask):
    """Two or more classes; labels are names."""

    named_labels = True

    @override
    def prepare(self, splits: Mapping[str, Any]) -> None:
        self.names = settle_for(self.data, splits, kept=self.kept)
        self.ids = ids(self.names, self.data.labels)

    @override
    def head_config(self) -> dict[str, Any]:
        return {
            "num_labels": len(self.names),
            "id2label": dict(enumerate(self.names)),
            "label2id": {name: i for i, name in enumerate(self.names)},
            "problem_type": "single_label_classification",
        }

    @override
    def label(self, value: Any, where: str) -> int:
        check(self.ids, self.names, {value: where})
        return self.ids[value]

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
    @classmethod
    def check_rows(cls, rows: Any, data: Data, place: Place) -> None:
        for i, (label,) in enumerate(columns_of(rows, [data.label])):
            _finite(label, place(i))

    @override
    def head_config(self) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    @override
    def label(self, value: Any, where: str) -> float:
        return _finite(value, where)

    @override
    def loss(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        logits = self.logits(model, batch).squeeze(-1)
        return F.mse_loss(logits, batch["labels"].to(logits.dtype), reduction="sum")

    @override
    def predict(self, model: nn.Module, batch: TensorBatch, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        return [{"prediction": float(value)} for value in self.logits(model, batch).squeeze(-1).cpu()]


def _finite(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UserError(f"{where}: label {value!r} is not a number") from None
    if not math.isfinite(number):
        raise UserError(f"{where}: label {value!r} is not finite")
    return number
