"""Sentence and sentence-pair classification and regression: the GLUE family, and a user's own data of that shape."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from autolora.data.labels import check, ids, listed, settle_for
from autolora.data.splits import Place
from autolora.errors import UserError
from autolora.metrics.base import Classes
from autolora.metrics.compute import score
from autolora.recipe.schema import Data, Eval
from autolora.registry import METRICS
from autolora.tasks.base import Purpose, Task
from autolora.tasks.encoding import Packer, beginning, columns_of, cut_off, has_column, in_batches, separator
from autolora.tasks.family import Wrong
from autolora.tasks.guess import of_classes, of_numbers
from autolora.tasks.logits import full_precision
from autolora.tasks.scored import Scored

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from autolora.tasks.usage import About, Usage
    from autolora.training.batches import Example, TensorBatch
    from autolora.training.sampling import Sampled


class _SequenceTask(Task):
    """What classification and regression share: one label a sequence."""

    peft_task_type = "SEQ_CLS"
    auto_class = "AutoModelForSequenceClassification"
    pipeline_tag = "text-classification"
    submits = True
    classes: Classes | None = None

    def label(self, value: Any, where: str) -> int | float:
        """The training target of a row's label. Raises UserError for one that is not valid, naming `where`."""
        raise NotImplementedError

    @override
    def encode(self, rows: Any, tokenizer: PreTrainedTokenizerBase, split: str, purpose: Purpose) -> list[Example]:
        size, longest = len(self.data.columns), self.data.max_length
        labelled = has_column(rows, self.data.label)
        examples: list[Example] = []
        pack, cut, between = Packer(), 0, separator(tokenizer) if size == 2 else ""
        for batch in in_batches(columns_of(rows, [*self.data.columns, self.data.label], self.data.label), size):
            texts = [[beginning(row[i], tokenizer, longest) for row in batch] for i in range(size)]
            texts[1:] = [[f"{between}{text}" for text in second] for second in texts[1:]]
            encoded = tokenizer(*texts, truncation=True, max_length=longest)
            cut += cut_off(encoded, tokenizer, texts, longest)
            columns = dict(encoded)
            if labelled:
                columns["label"] = [
                    self.label(row[-1], f"split {split}, row {number}")
                    for number, row in enumerate(batch, len(examples) + 1)
                ]
            examples += pack.all(columns)
        self.cut_off[split] = cut
        return examples

    @override
    def collate(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> TensorBatch:
        import torch

        inputs = [{key: value for key, value in example.items() if key != "label"} for example in examples]
        batch = dict(tokenizer.pad(inputs, padding=True, padding_side="right", return_tensors="pt"))
        if "label" in examples[0]:
            batch["labels"] = torch.tensor([example["label"] for example in examples])
        return batch

    @override
    def metrics(self, predictions: Sequence[dict[str, Any]], examples: Sequence[Example]) -> list[Scored]:
        references = [example["label"] for example in examples]
        found = [record["prediction"] for record in predictions]
        return [Scored(score(self.evaluation.metrics, found, references, classes=self.classes))]

    def logits(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        """(batch, labels), float32."""
        from autolora.model.fit import takes_inputs

        output = model(**takes_inputs(model, {key: value for key, value in batch.items() if key != "labels"}))
        logits: Tensor = output.logits
        return full_precision(logits)


class Classification(_SequenceTask):
    """Two or more classes; labels are names."""

    named_labels = True
    gives_scores = True
    gives = "classes"
    default_metrics = ("accuracy",)

    @override
    @classmethod
    def faults(cls, data: Data, evaluation: Eval) -> Iterator[Wrong]:
        yield from super().faults(data, evaluation)
        if evaluation.positive is None:
            return
        if not any(METRICS.load(name).of_classes for name in evaluation.metrics):
            message = f"no metric is about one class, got {evaluation.positive!r}"
            yield "eval.positive", message, "leave it out, or add f1 to eval.metrics"
        elif data.labels:
            yield from _positive_faults(evaluation.positive, data.labels)

    @override
    def prepare(self, splits: Mapping[str, Any]) -> None:
        self.names = settle_for(self.data, splits, kept=self.kept)
        self.ids = ids(self.names, self.data.labels)
        positive = self.evaluation.positive
        for field, message, hint in _positive_faults(positive, self.names) if positive is not None else ():
            raise UserError(f"{field}: {message}; {hint}")
        self.classes = Classes(len(self.names), 1 if positive is None else self.names.index(positive))

    @property
    @override
    def positive(self) -> str | None:
        one_class = any(METRICS.load(name).of_classes for name in self.evaluation.metrics)
        return self.names[self.classes.positive] if one_class and self.classes and self.classes.count == 2 else None

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
        if value not in self.ids:
            check(self.ids, self.names, {value: where})
        return self.ids[value]

    @override
    def loss(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        from torch.nn import functional as F

        smoothing = self.loss_settings.label_smoothing
        return F.cross_entropy(self.logits(model, batch), batch["labels"], reduction="sum", label_smoothing=smoothing)

    @override
    def sampled_loss(self, model: nn.Module, batch: TensorBatch, draws: torch.Generator) -> Sampled:
        """A class for every example."""
        from autolora.training.sampling import Sampled, sampled_categorical

        logits = self.logits(model, batch)
        return Sampled(sampled_categorical(logits, draws), len(logits))

    @override
    def guess(self, examples: Sequence[Example]) -> float:
        counts = Counter(example["label"] for example in examples)
        return of_classes(counts.values(), len(self.names), self.loss_settings.label_smoothing)

    @override
    def predict(self, model: nn.Module, batch: TensorBatch, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        rows = self.logits(model, batch).cpu()
        best = rows.argmax(-1).tolist()
        return [
            {"prediction": found, "prediction_name": self.names[found], "logits": row.tolist()}
            for found, row in zip(best, rows, strict=True)
        ]

    @override
    def answer(self, record: Mapping[str, Any], example: Example, *, scores: bool = False) -> dict[str, Any]:
        """The class by its name, and the probability of each."""
        found = {"prediction": record["prediction_name"]}
        if not scores:
            return found
        highest = max(record["logits"])
        powers = [math.exp(logit - highest) for logit in record["logits"]]
        return {**found, "scores": {name: p / sum(powers) for name, p in zip(self.names, powers, strict=True)}}

    @override
    def sameness(self, examples: Sequence[Example]) -> str | None:
        found = {example["label"] for example in examples}
        return f"have the class {self.names[found.pop()]!r}" if len(found) == 1 else None

    @override
    def reference_record(self, example: Example) -> dict[str, Any]:
        """The class as an id and by its name."""
        if "label" not in example:
            return {}
        return {"reference": example["label"], "reference_name": self.names[example["label"]]}

    @override
    @classmethod
    def usage(cls, about: About) -> Usage | None:
        from autolora.tasks.usage import classified

        return classified(about, cls.auto_class)


def _positive_faults(positive: str, names: Sequence[str]) -> Iterator[Wrong]:
    if len(names) != 2:
        message = f"only one of two classes can be the positive one, and there are {len(names)}, got {positive!r}"
        yield "eval.positive", message, "leave it out: F1 is then the mean over the classes"
    elif positive not in names:
        yield "eval.positive", f"must be one of the classes, got {positive!r}", f"choose from: {listed(names)}"


class Regression(_SequenceTask):
    """One real number a sequence, fitted by squared error."""

    gives = "numbers"
    default_metrics = ("pearson", "spearman")

    @override
    @classmethod
    def check_rows(cls, rows: Any, data: Data, place: Place) -> None:
        if has_column(rows, data.label):
            for i, (label,) in enumerate(columns_of(rows, [data.label])):
                _finite(label, place(i))

    @override
    def targets(self, labels: Iterable[Any]) -> dict[str, float]:
        count, total, lowest, highest = 0, 0.0, math.inf, -math.inf
        for number in map(float, labels):
            count, total = count + 1, total + number
            lowest, highest = min(lowest, number), max(highest, number)
        return {"lowest": lowest, "mean": total / count, "highest": highest} if count else {}

    @override
    def sameness(self, examples: Sequence[Example]) -> str | None:
        found = {example["label"] for example in examples}
        return f"have the number {found.pop():g}" if len(found) == 1 else None

    @override
    def head_config(self) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    @override
    def label(self, value: Any, where: str) -> float:
        return _finite(value, where)

    @override
    def loss(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        from torch.nn import functional as F

        logits = self.logits(model, batch).squeeze(-1)
        return F.mse_loss(logits, batch["labels"].to(logits.dtype), reduction="sum")

    @override
    def sampled_loss(self, model: nn.Module, batch: TensorBatch, draws: torch.Generator) -> Sampled:
        """The prediction plus standard normal noise; (f - ŷ)² / 2, half of this family's loss."""
        from autolora.training.sampling import Sampled, sampled_gaussian

        mean = self.logits(model, batch).squeeze(-1)
        return Sampled(sampled_gaussian(mean, draws), len(mean), scale=2.0)

    @override
    def guess(self, examples: Sequence[Example]) -> float:
        return of_numbers([example["label"] for example in examples])

    @override
    def predict(self, model: nn.Module, batch: TensorBatch, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        return [{"prediction": float(value)} for value in self.logits(model, batch).squeeze(-1).cpu()]

    @override
    @classmethod
    def usage(cls, about: About) -> Usage | None:
        from autolora.tasks.usage import regressed

        return regressed(about, cls.auto_class)


def _finite(value: Any, where: str) -> float:
    try:
        number = float(value)
        if isinstance(value, str) and "_" in value:  # Python's way to write numbers, and nobody else's
            raise ValueError(value)
    except (TypeError, ValueError):
        raise UserError(f"{where}: label {value!r} is not a number") from None
    if not math.isfinite(number):
        raise UserError(f"{where}: label {value!r} is not finite")
    return number
