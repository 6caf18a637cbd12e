"""Conditional generation with decoder models: an input, one or several reference outputs (E2E, WebNLG, your own pairs).

A training sequence is ``input <sep> output <eos>``; the loss is on the output and <eos> only. <sep> is the tokenizer's
beginning-of-sequence token, or its end-of-sequence token where it has none, as in the LoRA paper's GPT-2 experiments.

Rows with the same input are one example of an evaluation split, with all their references.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from autolora.console import warn
from autolora.data.cells import Kind
from autolora.data.splits import Place
from autolora.errors import UserError
from autolora.recipe.schema import Data
from autolora.registry import LINEARISERS, METRICS
from autolora.tasks.base import Purpose, Task, TeacherForced
from autolora.tasks.decoding import decode
from autolora.tasks.encoding import Packer, beginning, columns_of, in_batches
from autolora.tasks.ends import end_tokens, separator_token
from autolora.tasks.references import check_references, first_rows, grouped, groups_of, pairs_of, several
from autolora.tasks.scored import Scored
from autolora.tasks.scored_texts import scored_by_category, scores
from autolora.training.batches import IGNORED

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from autolora.tasks.token_loss import Pass
    from autolora.tasks.usage import About, Usage
    from autolora.training.batches import Example, TensorBatch
    from autolora.training.sampling import Sampled


class Generation(Task):
    """Text from an input, by a causal language model."""

    peft_task_type = "CAUSAL_LM"
    auto_class = "AutoModelForCausalLM"
    pipeline_tag = "text-generation"
    new_head = False
    decodes = True
    one_label = False  # several outputs of one input are all right
    predicts_training = False  # they hold their outputs; and one input is several of them
    gives = "texts"
    scores_tokens = True
    default_metrics = ("bleu", "nist", "chrf")
    one_column = "generation takes one input column"

    @override
    def prepare(self, splits: Mapping[str, Any]) -> None:
        self.seen = set(splits[self.data.splits.train][self.data.category]) if self.data.category else set()

    @override
    @classmethod
    def kinds(cls, data: Data) -> Mapping[str, Kind]:
        return dict.fromkeys((*data.columns, data.label), "any")

    @override
    @classmethod
    def check_rows(cls, rows: Any, data: Data, place: Place) -> None:
        check_references(rows, data, place)

    @override
    @classmethod
    def groups(cls, rows: Any, data: Data) -> Sequence[int]:
        """By the text of the input."""
        return groups_of(rows, data)

    @override
    def longest(self, examples: Sequence[Example]) -> int:
        generated = self.evaluation.generation.max_new_tokens if self.decoded(examples) else 0
        return super().longest(examples) + generated

    def decoded(self, examples: Sequence[Example]) -> bool:
        """Whether a model says something to examples of one split; those of training and those for tokens are given.

        Args:
            examples: As `encode` or `teacher_forced` gives them; at least one.
        """
        given = "references" not in examples[0]
        return not given and (self.predicts or not examples[0]["references"])

    @override
    def head_config(self) -> dict[str, Any]:
        return {}

    @override
    def grouped(self, rows: Any) -> list[dict[str, Any]]:
        """One example per distinct input, in the order of first appearance: raw input, references, category."""
        return grouped(rows, self.data)

    @override
    def sources(self, rows: Any, purpose: Purpose) -> Iterator[int]:
        if purpose == "eval":
            return first_rows(self.groups(rows, self.data))
        outputs = (several(references) for (references,) in columns_of(rows, [self.data.label]))
        return (row for row, each in enumerate(outputs) for _ in each)

    @override
    def targets(self, labels: Iterable[Any]) -> dict[str, float]:
        return {"references": sum(len(several(references)) for references in labels)}

    @override
    def key(self, value: Any) -> str:
        """What two writings of one input have in common."""
        try:
            return str(LINEARISERS.load(self.data.linearise)(value, "input"))
        except UserError:
            return " ".join(str(value).split())

    @override
    def encode(self, rows: Any, tokenizer: PreTrainedTokenizerBase, split: str, purpose: Purpose) -> list[Example]:
        """To train on: one example per pair of input and output. To predict: one per distinct input."""
        if purpose == "train":
            return self._sequences(rows, tokenizer, split, self.loss_settings.tokens == "all")
        inputs = self._inputs(grouped := self.grouped(rows), tokenizer, split)
        return [{**example, "input_ids": ids} for example, ids in zip(grouped, inputs, strict=True)]

    def _sequences(self, rows: Any, tokenizer: PreTrainedTokenizerBase, split: str, every: bool) -> list[Example]:
        """One example per pair of input and output; `every`: of which all tokens are learned, not the output alone."""
        inputs = self._inputs(grouped := self.grouped(rows), tokenizer, split)
        return self._pairs(
            rows, {e["text"]: ids for e, ids in zip(grouped, inputs, strict=True)}, tokenizer, split, every
        )

    def _inputs(
        self, grouped: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase, split: str
    ) -> list[list[int]]:
        """The tokens of each example's input; none is cut, so that what is too long is refused."""
        separator = separator_token(tokenizer)
        check_end(tokenizer)
        prompts = [[*ids, separator] for ids in _ids(tokenizer, [example["text"] for example in grouped])]
        self._check_lengths(prompts, grouped, split)
        self.cut_off[split] = 0
        return prompts

    def _pairs(
        self, rows: Any, prompts: Mapping[str, list[int]], tokenizer: PreTrainedTokenizerBase, split: str, every: bool
    ) -> list[Example]:
        """In the rows' order. An output that would make the sequence too long loses its end, <eos> included.

        The first token is never learned: nothing predicts it.
        """
        longest = self.data.max_length
        pairs = ((f" {output}", prompts[text]) for text, output in pairs_of(rows, self.data))
        examples: list[Example] = []
        pack, cut = Packer(), 0
        for batch in in_batches(pairs, 1):
            outputs = [beginning(output, tokenizer, longest) for output, _ in batch]
            for ids, (_, prompt) in zip(_ids(tokenizer, outputs), batch, strict=True):
                whole = [*prompt, *ids, tokenizer.eos_token_id]
                cut += len(whole) > longest
                examples.append(pack({"input_ids": whole[:longest], "prompt": 1 if every else len(prompt)}))
        self._say_cut(split, cut, len(examples))
        return examples

    def _say_cut(self, split: str, cut: int, count: int) -> None:
        """Keep how many outputs of a split lost their end, and say it."""
        self.cut_off[split] = cut
        what = "training outputs" if split == self.data.splits.train else f"references of split {split!r}"
        if cut:
            warn(f"{cut} of {count} {what} lose their end at data.max_length {self.data.max_length}")

    def _check_lengths(self, prompts: Sequence[list[int]], examples: Sequence[Mapping[str, Any]], split: str) -> None:
        for prompt, example in zip(prompts, examples, strict=True):
            if len(prompt) >= self.data.max_length:
                raise UserError(
                    f"split {split!r}: the input {example['text'][:60]!r}… has {len(prompt)} tokens, which leaves none "
                    f"of data.max_length {self.data.max_length} to the output; raise data.max_length"
                )

    @override
    def units(self, examples: Sequence[Example]) -> int:
        """Tokens that are learned: of the outputs, <eos> included, or all but the first."""
        return sum(len(example["input_ids"]) - example["prompt"] for example in examples)

    @override
    def collate(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> TensorBatch:
        """A padded batch.

        Training: padded on the right, with labels for the last positions only, from the shortest input on. Evaluation:
        padded on the left, so that all outputs begin at the same position.
        """
        import torch
        from torch.nn.utils.rnn import pad_sequence

        sequences = [torch.tensor(example["input_ids"]) for example in examples]
        side = "right" if "prompt" in examples[0] else "left"
        ids = pad_sequence(sequences, batch_first=True, padding_value=int(tokenizer.pad_token_id), padding_side=side)
        mask = pad_sequence([torch.ones_like(s) for s in sequences], batch_first=True, padding_side=side)
        batch = {"input_ids": ids, "attention_mask": mask}
        if side == "right":
            labels = ids.masked_fill(mask == 0, IGNORED)
            for row, example in enumerate(examples):
                labels[row, : example["prompt"]] = IGNORED
            batch["labels"] = labels[:, min(example["prompt"] for example in examples) :]
        return batch

    def prediction(self, model: nn.Module, batch: TensorBatch) -> Pass:
        """The pass that predicts the labels of a batch.

        Args:
            model: Adapted or not.
            batch: Of training examples, as `collate` gives it.
        """
        from autolora.tasks.token_loss import Pass

        width = batch["labels"].shape[1]
        inputs = self.inputs(batch)
        if _keeps_logits(model):  # the vocabulary's logits are made only where there is a label
            inputs["logits_to_keep"] = width + 1
        return Pass(inputs, slice(-width - 1, -1))

    def inputs(self, batch: TensorBatch) -> dict[str, Any]:
        """What the model is called with to learn from a batch.

        Args:
            batch: Of training examples, as `collate` gives it.
        """
        return {name: batch[name] for name in ("input_ids", "attention_mask")}

    def logits(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        """Those that predict the labels, (batch, positions of the labels, vocabulary), float32, all of them.

        Args:
            model: Adapted or not.
            batch: Of training examples.
        """
        return self.prediction(model, batch).logits(model)

    @override
    def loss(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        from autolora.tasks.token_loss import token_loss

        smoothing = self.loss_settings.label_smoothing
        return token_loss(model, self.prediction(model, batch), batch["labels"], smoothing)

    @override
    def sampled_loss(self, model: nn.Module, batch: TensorBatch, draws: torch.Generator) -> Sampled:
        """A token for every one of the outputs, each after what the data has before it, drawn independently."""
        from autolora.tasks.token_loss import sampled_token_loss

        return sampled_token_loss(model, self.prediction(model, batch), batch["labels"], draws)

    @override
    def predict(self, model: nn.Module, batch: TensorBatch, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        texts = decode(model, inputs, self.evaluation.generation, tokenizer, self.ends(model, tokenizer))
        return [{"prediction": self.said(text)} for text in texts]

    @override
    def reference_faults(self, rows: Any) -> Iterator[tuple[int, str]]:
        checks = [check for name in self.evaluation.metrics if (check := METRICS.load(name).reference_fault)]
        for row, (references,) in enumerate(columns_of(rows, [self.data.label]) if checks else ()):
            for reference in several(references):
                yield from ((row, fault) for check in checks if (fault := check(reference)))

    @override
    def teacher_forced(self, rows: Any, tokenizer: PreTrainedTokenizerBase, split: str) -> TeacherForced:
        """A sequence for each reference: input and output, of which the output alone counts whatever is learned."""
        groups, sequences = self.groups(rows, self.data), self._sequences(rows, tokenizer, split, every=False)
        return sequences, [groups[row] for row in self.sources(rows, "train")]

    @override
    def score_tokens(
        self, model: nn.Module, batch: TensorBatch, tokenizer: PreTrainedTokenizerBase
    ) -> list[dict[str, Any]]:
        from autolora.tasks.token_loss import token_scores

        return token_scores(model, self.prediction(model, batch), batch["labels"]).records()

    def ends(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> Sequence[int]:
        """Tokens that end an output beside the tokenizer's end-of-sequence token; none, since none was trained.

        Args:
            model: Adapted or not.
            tokenizer: Its own.
        """
        return ()

    @override
    def reference_record(self, example: Example) -> dict[str, Any]:
        category = {"category": example["category"]} if self.data.category else {}
        references = {"references": example["references"]} if example["references"] else {}
        return {"input": example["input"], **category, **references}

    @override
    def metrics(self, predictions: Sequence[dict[str, Any]], examples: Sequence[Example]) -> list[Scored]:
        """One, of all; with categories those seen in training, those unseen, and all."""
        wanted = self.evaluation.metrics
        if self.data.category:
            return scored_by_category(wanted, predictions, examples, self.seen)
        found, counts = scores(wanted, predictions, examples)
        return [Scored(found, {}, counts)]

    @override
    @classmethod
    def usage(cls, about: About) -> Usage | None:
        from autolora.tasks.usage import generated

        return generated(about, cls.auto_class, end_tokens(about.tokenizer, about.evaluation.generation.stop))


def check_end(tokenizer: PreTrainedTokenizerBase) -> None:
    """Make sure that there is a token to end an output with.

    Args:
        tokenizer: The model's.

    Raises:
        UserError: There is none.
    """
    if tokenizer.eos_token_id is None:
        raise UserError(f"{tokenizer.name_or_path}: the tokenizer has no end-of-sequence token to end an output with")


def _ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    found: list[list[int]] = []
    for batch in in_batches(((text,) for text in texts), 1):
        found += tokenizer([text for (text,) in batch], add_special_tokens=False)["input_ids"]
    return found


def _keeps_logits(model: Any) -> bool:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(inner.forward).parameters
