"""Conditional generation with encoder-decoders (T5, BART): the input goes to the encoder, the output to the decoder.

Both are written as the model's tokenizer writes a text, with its special tokens; the output always ends with <eos>. The
decoder begins with the model's start token and is trained to say the output, token by token.

    family = family_of("generation", encoder_decoder=config.is_encoder_decoder)

It is the family that `Generation` is on such a model; a recipe does not say which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase
from typing_extensions import override

from autolora.errors import UserError
from autolora.registry import TASKS
from autolora.tasks.base import Task
from autolora.tasks.decoding import inner_model
from autolora.tasks.encoding import Packer, beginning, in_batches
from autolora.tasks.ends import end_tokens
from autolora.tasks.generation import Generation, check_end
from autolora.tasks.references import pairs_of
from autolora.tasks.token_loss import Pass
from autolora.tasks.usage import About, Usage, translated
from autolora.training.batches import IGNORED, Example, TensorBatch


class EncoderDecoderGeneration(Generation):
    """Text from an input, by an encoder-decoder. Training examples have "input_ids" and "output_ids"."""

    peft_task_type = "SEQ_2_SEQ_LM"
    auto_class = "AutoModelForSeq2SeqLM"

    @override
    def longest(self, examples: Sequence[Example]) -> int:
        """Tokens of the longest input, or of the longest output where that is longer."""
        new = self._new_tokens if self.decoded(examples) else 0
        outputs = [len(e["output_ids"]) if "output_ids" in e else new for e in examples]
        return max(*(len(example["input_ids"]) for example in examples), *outputs)

    @property
    def _new_tokens(self) -> int:
        return self.evaluation.generation.max_new_tokens

    @override
    def prepare(self, splits: Mapping[str, Any]) -> None:
        super().prepare(splits)
        if self.loss_settings.tokens != "outputs":
            raise UserError(
                "loss.tokens: all is for decoders; an encoder-decoder predicts its outputs alone; leave it out"
            )

    @override
    def _inputs(
        self, grouped: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase, split: str
    ) -> list[list[int]]:
        check_end(tokenizer)
        inputs: list[list[int]] = []
        for batch in in_batches(((example["text"],) for example in grouped), 1):
            inputs += tokenizer([text for (text,) in batch], verbose=False)["input_ids"]
        self._check_inputs(inputs, grouped, split)
        self.cut_off[split] = 0
        return inputs

    def _check_inputs(self, inputs: Sequence[list[int]], examples: Sequence[Mapping[str, Any]], split: str) -> None:
        for ids, example in zip(inputs, examples, strict=True):
            if len(ids) > self.data.max_length:
                raise UserError(
                    f"split {split!r}: the input {example['text'][:60]!r}… has {len(ids)} tokens, more than "
                    f"data.max_length {self.data.max_length}; raise data.max_length"
                )

    @override
    def _pairs(
        self, rows: Any, prompts: Mapping[str, list[int]], tokenizer: PreTrainedTokenizerBase, split: str, every: bool
    ) -> list[Example]:
        """In the rows' order. An output that is too long loses its end, <eos> included."""
        longest = self.data.max_length
        pairs = ((output, prompts[text]) for text, output in pairs_of(rows, self.data))
        examples: list[Example] = []
        pack, cut, end = Packer(), 0, tokenizer.eos_token_id
        ended = end in tokenizer(text_target="")["input_ids"]  # by the tokenizer itself, of whatever a text says
        for batch in in_batches(pairs, 1):
            texts = [beginning(text, tokenizer, longest) for text, _ in batch]
            encoded = tokenizer(text_target=texts, verbose=False)["input_ids"]
            for ids, (_, given) in zip(encoded, batch, strict=True):
                whole = ids if ended else [*ids, end]
                cut += len(whole) > longest
                examples.append(pack({"input_ids": given, "output_ids": whole[:longest]}))
        self._say_cut(split, cut, len(examples))
        return examples

    @override
    def units(self, examples: Sequence[Example]) -> int:
        """Tokens of the outputs, <eos> included."""
        return sum(len(example["output_ids"]) for example in examples)

    @override
    def collate(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> TensorBatch:
        """Inputs padded on the right, and for training the outputs as labels."""
        inputs = [torch.tensor(example["input_ids"]) for example in examples]
        pad = int(tokenizer.pad_token_id)
        batch = {
            "input_ids": pad_sequence(inputs, batch_first=True, padding_value=pad),
            "attention_mask": pad_sequence([torch.ones_like(ids) for ids in inputs], batch_first=True),
        }
        if "output_ids" in examples[0]:
            outputs = [torch.tensor(example["output_ids"]) for example in examples]
            batch["labels"] = pad_sequence(outputs, batch_first=True, padding_value=IGNORED)
        return batch

    @override
    def prediction(self, model: nn.Module, batch: TensorBatch) -> Pass:
        """Likewise; the decoder is called with what it has said so far."""
        config, labels = inner_model(model).config, batch["labels"]
        # The labels one position later, (examples, positions).
        decoder = labels.new_full(labels.shape, config.decoder_start_token_id)
        decoder[:, 1:] = labels[:, :-1].masked_fill(labels[:, :-1] == IGNORED, config.pad_token_id)
        return Pass({**self.inputs(batch), "decoder_input_ids": decoder}, slice(None))

    @override
    @classmethod
    def usage(cls, about: About) -> Usage | None:
        return translated(about, cls.auto_class, end_tokens(about.tokenizer, about.evaluation.generation.stop))


def family_of(task: str, *, encoder_decoder: bool) -> type[Task]:
    """The task family that a recipe names, as it is on a kind of model.

    Args:
        task: Its name.
        encoder_decoder: Whether the model is one.
    """
    family = TASKS.load(task)
    if encoder_decoder and family.converses:
        raise UserError(f"model.name: {task} is learned by causal language models, and this is an encoder-decoder")
    return EncoderDecoderGeneration if encoder_decoder and family is Generation else family
