"""Imitation: numbers for every word, a teacher's for instance, learned by squared error with the model's own head.

| column | a row's cell |
|---|---|
| the input's | words, a list |
| the label's | a text of numbers for each word, ``["0.5 -1.25", "0 2"]``; everywhere equally many |
| ``base``, where there is one | likewise, what the model said before it learned anything |

The head is the checkpoint's and stays as it is: whatever the model learns, it learns in its adapted layers. Numbers
belong to the first piece of a word. The loss is the mean of (f - y)² over all numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from autolora.data.cells import Kind
from autolora.data.splits import Place
from autolora.errors import UserError
from autolora.metrics.compute import score
from autolora.recipe.schema import Data, Eval
from autolora.tasks.base import Purpose, Task
from autolora.tasks.encoding import columns_of, first_pieces, has_column, in_batches, spaced, wants_spaces
from autolora.tasks.family import Wrong
from autolora.tasks.logits import full_precision
from autolora.tasks.scored import Scored

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from autolora.training.batches import Example, TensorBatch
    from autolora.training.sampling import Sampled

BASE = "base"  # the column with what the untrained model says

Numbers = list[list[float]]  # of each word


class Imitation(Task):
    """Numbers for every word."""

    peft_task_type = "TOKEN_CLS"
    auto_class = "AutoModelForTokenClassification"
    new_head = False
    tokenizer_options = {"add_prefix_space": True}  # noqa: RUF012  # byte-level tokenizers need it to take words
    gives = "vectors"
    default_metrics = ("relative_error",)
    one_column = "imitation takes one column of words"

    @override
    @classmethod
    def faults(cls, data: Data, evaluation: Eval) -> Iterator[Wrong]:
        yield from super().faults(data, evaluation)
        if BASE in (*data.columns, data.label):
            yield "data", f"the column {BASE!r} holds what the untrained model says, and nothing else", "rename it"

    @override
    @classmethod
    def kinds(cls, data: Data) -> Mapping[str, Kind]:
        return dict.fromkeys((*data.columns, data.label, BASE), "list")

    @override
    @classmethod
    def check_rows(cls, rows: Any, data: Data, place: Place) -> None:
        present = [name for name in (data.label, BASE) if has_column(rows, name)]
        width: int | None = None
        for i, (words, *cells) in enumerate(columns_of(rows, [data.columns[0], *present])):
            if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
                raise UserError(f"{place(i)}: {data.columns[0]!r} must be a list of words, got {repr(words)[:60]}")
            for name, cell in zip(present, cells, strict=True):
                numbers = _numbers(cell, f"{place(i)}: {name!r}")
                if len(numbers) != len(words):
                    raise UserError(f"{place(i)}: {len(words)} words but numbers for {len(numbers)} in {name!r}")
                for word in numbers:
                    width = len(word) if width is None else width
                    if len(word) != width:
                        raise UserError(f"{place(i)}: {len(word)} numbers for a word in {name!r}, and {width} before")

    @override
    def prepare(self, splits: Mapping[str, Any]) -> None:
        labelled = (rows[self.data.label] for rows in splits.values() if has_column(rows, self.data.label))
        self.width = next((len(_numbers(column[0], "")[0]) for column in labelled), 1)

    @override
    def targets(self, labels: Iterable[Any]) -> dict[str, float]:
        count, total, lowest, highest = 0, 0.0, math.inf, -math.inf
        for number in (number for cell in labels for word in _numbers(cell, "") for number in word):
            count, total = count + 1, total + number
            lowest, highest = min(lowest, number), max(highest, number)
        return {"lowest": lowest, "mean": total / count, "highest": highest} if count else {}

    @override
    def sameness(self, examples: Sequence[Example]) -> str | None:
        found = {tuple(word) for example in examples for word in example["label"]}
        return "have the same numbers for every word" if len(found) == 1 else None

    @override
    def head_config(self) -> dict[str, Any]:
        return {"num_labels": self.width}

    @override
    def encode(self, rows: Any, tokenizer: PreTrainedTokenizerBase, split: str, purpose: Purpose) -> list[Example]:
        if purpose == "eval" and has_column(rows, self.data.label) and not has_column(rows, BASE):
            raise _no_base(f"split {split!r}")
        present = [name for name in (self.data.label, BASE) if has_column(rows, name)]
        examples: list[Example] = []
        spaces = wants_spaces(tokenizer)
        for batch in in_batches(columns_of(rows, [self.data.columns[0], *present]), 1):
            words = [spaced(row[0]) if spaces else row[0] for row in batch]
            encoded = tokenizer(words, is_split_into_words=True)
            for i, (tokens, *cells) in enumerate(batch):
                where = f"split {split!r}, row {len(examples) + 1}"
                pieces = self._pieces(encoded.word_ids(i), len(tokens), where)
                numbers = {name: _numbers(cell, where) for name, cell in zip(present, cells, strict=True)}
                if self.data.label in numbers:
                    numbers["label"] = numbers.pop(self.data.label)
                examples.append({"input_ids": encoded["input_ids"][i], "first": pieces, "words": tokens, **numbers})
        self.cut_off[split] = 0
        return examples

    def _pieces(self, word_ids: Sequence[int | None], words: int, where: str) -> list[tuple[int, int]]:
        """See `first_pieces`; nothing may be cut off, since there is nothing that could be predicted instead."""
        if len(word_ids) > self.data.max_length:
            raise UserError(f"{where}: {len(word_ids)} tokens are more than data.max_length ({self.data.max_length})")
        pieces = first_pieces(word_ids)
        if len(pieces) != words:
            raise UserError(f"{where}: the tokenizer makes nothing of {words - len(pieces)} of the {words} words")
        return pieces

    @override
    def units(self, examples: Sequence[Example]) -> int:
        """Numbers."""
        return sum(len(example["first"]) for example in examples) * self.width

    @override
    def collate(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> TensorBatch:
        import torch

        inputs = [{"input_ids": example["input_ids"]} for example in examples]
        batch = dict(tokenizer.pad(inputs, padding=True, padding_side="right", return_tensors="pt"))
        shape = batch["input_ids"].shape
        batch["words"] = torch.zeros(shape, dtype=torch.bool)  # whether a word begins at a position
        for row, example in enumerate(examples):
            batch["words"][row, [position for position, _ in example["first"]]] = True
        if "label" in examples[0]:
            batch["labels"] = torch.zeros(*shape, self.width)
            batch["labels"][batch["words"]] = torch.tensor([word for example in examples for word in example["label"]])
        return batch

    def outputs(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        """The predictions f for every word of the batch, (words, numbers), float32."""
        logits: Tensor = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return full_precision(logits)[batch["words"]]

    @override
    def loss(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        from torch.nn import functional as F

        outputs = self.outputs(model, batch)
        return F.mse_loss(outputs, batch["labels"][batch["words"]].to(outputs.dtype), reduction="sum")

    @override
    def sampled_loss(self, model: nn.Module, batch: TensorBatch, draws: torch.Generator) -> Sampled:
        """The prediction plus standard normal noise, for every number; (f - ŷ)² / 2, half of this family's loss."""
        from autolora.training.sampling import Sampled, sampled_gaussian

        outputs = self.outputs(model, batch)
        return Sampled(sampled_gaussian(outputs, draws), outputs.numel(), scale=2.0)

    @override
    def predict(self, model: nn.Module, batch: TensorBatch, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        found = iter(self.outputs(model, batch).tolist())
        return [{"prediction": [next(found) for _ in range(count)]} for count in batch["words"].sum(1).tolist()]

    @override
    def reference_record(self, example: Example) -> dict[str, Any]:
        reference = {"reference": example["label"]} if "label" in example else {}
        return {"words": example["words"], **reference, **({BASE: example[BASE]} if BASE in example else {})}

    @override
    def metrics(self, predictions: Sequence[dict[str, Any]], examples: Sequence[Example]) -> list[Scored]:
        if not all(BASE in example for example in examples):
            raise _no_base("the training split")  # of an evaluation split it has been said
        found = [record["prediction"] for record in predictions]
        return [Scored(score(self.evaluation.metrics, found, [(each["label"], each[BASE]) for each in examples]))]


def _no_base(where: str) -> UserError:
    return UserError(
        f"{where}: errors are measured in that of the untrained model, and there is no column {BASE!r} with what that "
        "says; add it"
    )


def _numbers(cell: Any, where: str) -> Numbers:
    """A text of numbers for each word.

    Raises:
        UserError: It is something else; the message begins with `where`.
    """
    if not isinstance(cell, list) or not cell:
        raise UserError(f"{where} must be a list with a text of numbers for each word, got {cell!r:.60}")
    return [_row(text, where) for text in cell]


def _row(text: Any, where: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split()]
    except (AttributeError, ValueError):  # no text, or no numbers
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)) or "_" in text:  # 1_0 is Python's
        raise UserError(f"{where} must be finite numbers with blanks between, got {text!r:.60}")
    return numbers
