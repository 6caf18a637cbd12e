"""Sequence labelling with encoders: a tag for every word (NER in the IOB2 scheme).

The first piece of a word carries its tag; the other pieces are left out of the loss. Words that truncation cut off, or
that the tokenizer makes nothing of, are predicted O, and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from autolora.data.cells import Kind
from autolora.data.labels import check, ids, listed, settle_for
from autolora.data.splits import Place
from autolora.errors import UserError
from autolora.metrics.compute import score
from autolora.metrics.entities import METRIC, entities_by_type, entity_count, entity_spans
from autolora.recipe.schema import Data, Eval
from autolora.tasks.base import WHOLE, Purpose, Task
from autolora.tasks.encoding import beginning, columns_of, cut_off, first_pieces, in_batches, spaced, wants_spaces
from autolora.tasks.family import Wrong
from autolora.tasks.guess import of_classes
from autolora.tasks.logits import full_precision
from autolora.tasks.scored import Scored
from autolora.training.batches import IGNORED

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from autolora.tasks.usage import About, Usage
    from autolora.training.batches import Example, TensorBatch
    from autolora.training.sampling import Sampled

NO_WORD = -1
ENTITIES = METRIC.name
OUTSIDE = "O"
_TAG = re.compile(r"O|[BI]-.+")


class Tagging(Task):
    """A tag for every word."""

    peft_task_type = "TOKEN_CLS"
    auto_class = "AutoModelForTokenClassification"
    pipeline_tag = "token-classification"
    tokenizer_options = {"add_prefix_space": True}  # noqa: RUF012  # byte-level tokenizers need it to take words
    named_labels = True
    gives = "tags"
    default_metrics = (ENTITIES,)
    one_column = "tagging takes one column of words"

    @override
    @classmethod
    def faults(cls, data: Data, evaluation: Eval) -> Iterator[Wrong]:
        yield from super().faults(data, evaluation)
        if data.labels and not _is_scheme(data.labels):
            message = f"tags are O, B-… and I-… (IOB2), got {listed(data.labels)}"
            yield "data.labels", message, "rename them in recipe and data"

    @override
    def prepare(self, splits: Mapping[str, Any]) -> None:
        self.names = settle_for(self.data, splits, "tag", _in_order, kept=self.kept)
        if not _is_scheme(self.names):
            raise UserError(f"column {self.data.label!r}: tags are O, B-… and I-… (IOB2), got {listed(self.names)}")
        self.ids = ids(self.names, self.data.labels)

    @override
    @classmethod
    def kinds(cls, data: Data) -> Mapping[str, Kind]:
        return dict.fromkeys((*data.columns, data.label), "list")

    @override
    @classmethod
    def check_rows(cls, rows: Any, data: Data, place: Place) -> None:
        names = data.labels or ()
        known = ids(names, names)
        for i, (words, tags) in enumerate(columns_of(rows, [data.columns[0], data.label], data.label)):
            where = place(i)
            if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
                raise UserError(f"{where}: {data.columns[0]!r} must be a list of words, got {repr(words)[:60]}")
            if tags is None:
                continue
            if not isinstance(tags, list) or len(tags) != len(words):
                count = len(tags) if isinstance(tags, list) else "no list of"
                raise UserError(f"{where}: {len(words)} words but {count} tags in {data.label!r}")
            for j, tag in enumerate(tags, 1):
                _check_tag(tag, known, names, f"{where}, word {j} ({words[j - 1]!r})")

    @override
    def head_config(self) -> dict[str, Any]:
        return {
            "num_labels": len(self.names),
            "id2label": dict(enumerate(self.names)),
            "label2id": {name: i for i, name in enumerate(self.names)},
        }

    @override
    def encode(self, rows: Any, tokenizer: PreTrainedTokenizerBase, split: str, purpose: Purpose) -> list[Example]:
        longest = self.data.max_length
        examples: list[Example] = []
        cut, spaces = 0, wants_spaces(tokenizer)
        for batch in in_batches(columns_of(rows, [self.data.columns[0], self.data.label], self.data.label), 1):
            words = [spaced(row[0]) if spaces else row[0] for row in batch]
            words = [beginning(text, tokenizer, longest) for text in words]
            encoded = tokenizer(words, is_split_into_words=True, truncation=True, max_length=longest)
            cut += cut_off(encoded, tokenizer, [words], longest)
            for i, (tokens, tags) in enumerate(batch):
                where = f"split {split!r}, row {len(examples) + 1}"
                pieces = first_pieces(encoded.word_ids(i))
                example = {"input_ids": encoded["input_ids"][i], "first": pieces, "tokens": tokens}
                if tags is not None:
                    example["tags"] = [self._tag(tag, f"{where}, word {j}") for j, tag in enumerate(tags, 1)]
                examples.append(example)
        self.cut_off[split] = cut
        return examples

    @override
    def lost(self, examples: Sequence[Example]) -> dict[str, int]:
        """Words that no tag is predicted for."""
        return {"words": sum(len(example["tokens"]) for example in examples) - self.units(examples)}

    def _tag(self, value: str, where: str) -> str:
        """A tag of the data by its name."""
        check(self.ids, self.names, {value: where}, "tag")
        return self.names[self.ids[value]]

    @override
    def sees_words(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> bool:
        return self.units(examples) > 0 and super().sees_words(examples, tokenizer)

    @override
    def sameness(self, examples: Sequence[Example]) -> str | None:
        found = {example["tags"][word] for example in examples for _, word in example["first"]}
        return f"have the tag {found.pop()!r} for every word that the model sees" if len(found) == 1 else None

    @override
    def units(self, examples: Sequence[Example]) -> int:
        """Words that the model sees."""
        return sum(len(example["first"]) for example in examples)

    @override
    def collate(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> TensorBatch:
        import torch

        inputs = [{"input_ids": example["input_ids"]} for example in examples]
        batch = dict(tokenizer.pad(inputs, padding=True, padding_side="right", return_tensors="pt"))
        width = batch["input_ids"].shape[1]
        batch["labels"] = torch.full((len(examples), width), IGNORED)
        batch["words"] = torch.full((len(examples), width), NO_WORD)  # which word begins at a position
        batch["counts"] = torch.tensor([len(example["tokens"]) for example in examples])
        for row, example in enumerate(examples):
            for position, word in example["first"]:
                if "tags" in example:
                    batch["labels"][row, position] = self.ids[example["tags"][word]]
                batch["words"][row, position] = word
        return batch

    def logits(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        """(batch, positions, tags), float32."""
        logits: Tensor = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return full_precision(logits)

    @override
    def loss(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        from torch.nn import functional as F

        return F.cross_entropy(
            self.logits(model, batch).flatten(0, 1),
            batch["labels"].flatten(),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=self.loss_settings.label_smoothing,
        )

    @override
    def sampled_loss(self, model: nn.Module, batch: TensorBatch, draws: torch.Generator) -> Sampled:
        """A tag for every word that the model sees, drawn independently."""
        from autolora.training.sampling import Sampled, sampled_categorical

        seen = batch["words"] != NO_WORD
        return Sampled(sampled_categorical(self.logits(model, batch), draws, seen), int(seen.sum()))

    @override
    def guess(self, examples: Sequence[Example]) -> float | None:
        counts = Counter(example["tags"][word] for example in examples for _, word in example["first"])
        smoothing = self.loss_settings.label_smoothing
        return of_classes(counts.values(), len(self.names), smoothing) if counts else None

    @override
    def predict(self, model: nn.Module, batch: TensorBatch, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        best, words = self.logits(model, batch).argmax(-1).tolist(), batch["words"].tolist()
        records = []
        for row, count in enumerate(batch["counts"].tolist()):
            tags = [OUTSIDE] * count
            seen = [(word, tag) for word, tag in zip(words[row], best[row], strict=True) if word != NO_WORD]
            for word, tag in seen:
                tags[word] = self.names[tag]
            records.append({"prediction": tags, "cut_off": count - len(seen)})
        return records

    @override
    def answer(self, record: Mapping[str, Any], example: Example, *, scores: bool = False) -> dict[str, Any]:
        """Tags, the entities that they make (words from "start" to before "end"), and how many words were cut off."""
        words, tags = example["tokens"], record["prediction"]
        entities = [
            {"type": name, "start": first, "end": last + 1, "text": " ".join(words[first : last + 1])}
            for name, first, last in entity_spans(tags)
        ]
        return {"prediction": tags, "entities": entities, "cut_off": record["cut_off"]}

    @override
    def reference_record(self, example: Example) -> dict[str, Any]:
        reference = {"reference": example["tags"]} if "tags" in example else {}
        return {"tokens": example["tokens"], **reference}

    @override
    def metrics(self, predictions: Sequence[dict[str, Any]], examples: Sequence[Example]) -> list[Scored]:
        """All entities, with the tags' accuracy and the words cut off, and each type for itself."""
        found, true = [record["prediction"] for record in predictions], [example["tags"] for example in examples]
        counts = {"entities": entity_count(true)} if ENTITIES in self.evaluation.metrics else {}
        counts["cut-off words"] = sum(record["cut_off"] for record in predictions)
        whole = Scored(score(self.evaluation.metrics, found, true), {"type": WHOLE}, counts)
        return [whole, *(self._of_type(found, true) if ENTITIES in self.evaluation.metrics else ())]

    @override
    @classmethod
    def usage(cls, about: About) -> Usage | None:
        from autolora.tasks.usage import tagged

        return tagged(about, cls.auto_class, cls.tokenizer_options, spaces=wants_spaces(about.tokenizer))

    @staticmethod
    def _of_type(found: Sequence[Sequence[str]], true: Sequence[Sequence[str]]) -> Iterator[Scored]:
        for name, values in entities_by_type(found, true).items():
            scores = tuple(output.score(values[output.name]) for output in METRIC.outputs if output.name in values)
            yield Scored(scores, {"type": name}, {"entities": int(values["entities"])}, whole=False)


def _is_scheme(names: Sequence[str]) -> bool:
    return OUTSIDE in names and all(_TAG.fullmatch(name) for name in names)


def _check_tag(tag: Any, known: Mapping[str, int], names: Sequence[str], where: str) -> None:
    if names:
        check(known, names, {tag: where}, "tag")
    elif isinstance(tag, str) and tag.isdecimal():
        raise UserError(f"{where}: the tag is a number, {tag}; name the tags in data.labels")
    elif not isinstance(tag, str) or not _TAG.fullmatch(tag):
        raise UserError(f"{where}: the tag must be O, B-… or I-… (IOB2), got {tag!r}")


def _in_order(found: Collection[str]) -> list[str]:
    """O, then by type, B- before I-."""
    return [OUTSIDE, *sorted(set(found) - {OUTSIDE}, key=lambda tag: (tag[2:], tag))]
