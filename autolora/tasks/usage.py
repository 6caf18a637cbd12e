"""Python that loads a trained model and predicts as its run did, for people who have transformers and PEFT alone.

A family gives its part of it (`Task.usage`): how tokenizer and model are loaded, and how inputs become predictions. A
method gives the part in between, how what it has trained is put into the model. `autolora.cards.snippet` joins them.

In the code ``adapter`` is the folder or repository, ``base`` the pretrained model, ``inputs`` what is asked and
``predictions`` what comes of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from autolora.tasks.ends import separator_token, stop_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from autolora.recipe.schema import Data, Eval

WIDTH = 110  # characters of a line of code, about
LINEARISED = {  # an input of a structured kind as the model gets it
    "e2e": "name : The Blue Door | eatType : pub | area : riverside",
    "triples": "Anna_Example : birthPlace : Springfield",
}


@dataclass(frozen=True)
class About:
    """What the code depends on.

    Args:
        data: The recipe's section.
        evaluation: Likewise.
        names: Of the classes, by id; empty where there are none.
        tokenizer: The model's, as the family loads it.
        takes: Names of what the model can be called with; empty where that is not known.
    """

    data: Data
    evaluation: Eval
    names: Sequence[str]
    tokenizer: PreTrainedTokenizerBase
    takes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Usage:
    """The family's part.

    Args:
        imports: Names from transformers.
        tokenizer: Options of its loading.
        model: Options of the model's.
        before: Lines before anything is loaded: the names of the classes.
        settings: Lines between the loading of the model and what was trained being put into it.
        predict: Lines that make ``predictions`` of ``inputs``, which the first of them sets.
    """

    imports: tuple[str, ...]
    predict: tuple[str, ...]
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    model: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


def classified(about: About, auto_class: str) -> Usage:
    """Of a classifier: the class of each text, or of each pair of texts.

    Args:
        about: With the names of the classes.
        auto_class: Of transformers.
    """
    return Usage(
        imports=(auto_class,),
        before=(f"labels = {_labels(about.names)}",),
        model=("num_labels=len(labels)", "id2label=labels"),
        settings=_padding(about.tokenizer),
        predict=(
            *_texts(about),
            "with torch.inference_mode():",
            "    logits = model(**batch).logits",
            "predictions = [labels[i] for i in logits.argmax(-1).tolist()]",
        ),
    )


def regressed(about: About, auto_class: str) -> Usage:
    """Of a regression: a number for each text, or for each pair of texts.

    Args:
        about: See `About`.
        auto_class: Of transformers.
    """
    return Usage(
        imports=(auto_class,),
        model=("num_labels=1",),
        settings=_padding(about.tokenizer),
        predict=(
            *_texts(about),
            "with torch.inference_mode():",
            "    predictions = model(**batch).logits.squeeze(-1).tolist()",
        ),
    )


def tagged(about: About, auto_class: str, options: Mapping[str, Any], *, spaces: bool) -> Usage:
    """Of a tagger: a tag for each word.

    Args:
        about: With the names of the tags.
        auto_class: Of transformers.
        options: Of the tokenizer's loading.
        spaces: Whether words stand with a space in front of them.
    """
    words = "[[*words[:1], *(f' {word}' for word in words[1:])] for words in inputs]" if spaces else "inputs"
    return Usage(
        imports=(auto_class,),
        tokenizer=options,
        before=(f"labels = {_labels(about.names)}",),
        model=("num_labels=len(labels)", "id2label=labels"),
        settings=_padding(about.tokenizer),
        predict=(
            'inputs = [["A", "sentence", "in", "words", "."]]',
            "batch = tokenizer(",
            f"    {words},",
            f"    is_split_into_words=True, truncation=True, max_length={about.data.max_length}, padding=True, "
            'return_tensors="pt",',
            ")",
            "with torch.inference_mode():",
            '    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits',
            "best = logits.argmax(-1).tolist()",
            'predictions = [["O"] * len(words) for words in inputs]  # and what is cut off',
            "for row, tags in enumerate(predictions):",
            "    for position, word in reversed(list(enumerate(batch.word_ids(row)))):",
            "        if word is not None:",
            "            tags[word] = labels[best[row][position]]  # the first piece of a word counts",
        ),
    )


def generated(about: About, auto_class: str, ends: Sequence[int]) -> Usage:
    """Of a decoder that continues an input.

    Args:
        about: See `About`.
        auto_class: Of transformers.
        ends: Tokens that end an output.
    """
    return Usage(
        imports=(auto_class, "GenerationConfig"),
        settings=("model.generation_config = GenerationConfig()  # what its folder says of decoding does not count",),
        predict=(
            *_asked(about),
            "predictions = []",
            "for text in inputs:",
            f'    ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], {separator_token(about.tokenizer)}]',
            *_decoding(about, ends, "len(ids)"),
            '    predictions.append(" ".join(said.split()))',
        ),
    )


def translated(about: About, auto_class: str, ends: Sequence[int]) -> Usage:
    """Of an encoder-decoder.

    Args:
        about: See `About`.
        auto_class: Of transformers.
        ends: Tokens that end an output.
    """
    return Usage(
        imports=(auto_class, "GenerationConfig"),
        settings=(
            "start = model.config.decoder_start_token_id",
            "model.generation_config = GenerationConfig(decoder_start_token_id=start, is_encoder_decoder=True)",
        ),
        predict=(
            *_asked(about),
            "predictions = []",
            "for text in inputs:",
            '    ids = tokenizer(text)["input_ids"]',
            *_decoding(about, ends, "1"),
            '    predictions.append(" ".join(said.split()))',
        ),
    )


def conversed(about: About, auto_class: str, ends: Sequence[int], template: str | None, date: str) -> Usage:
    """Of a model that answers in conversations.

    Args:
        about: See `About`.
        auto_class: Of transformers.
        ends: Tokens that end a turn, beside those that the model's own folder names.
        template: The chat template; None: the tokenizer's own.
        date: What templates are told that write one.
    """
    named = () if template is None else ("template = (", *(f"    {line!r}" for line in _lines(template)), ")")
    chosen = "" if template is None else "chat_template=template, "
    return Usage(
        imports=(auto_class, "GenerationConfig"),
        before=named,
        settings=(
            "ends = model.generation_config.eos_token_id or []",
            f"ends = list(dict.fromkeys([*{list(ends)}, *(ends if isinstance(ends, list) else [ends])]))",
            "model.generation_config = GenerationConfig()  # what its folder says of decoding does not count",
        ),
        predict=(
            'inputs = [[{"role": "user", "content": "What is the rank of a matrix?"}]]',
            "predictions = []",
            "for turns in inputs:",
            "    text = tokenizer.apply_chat_template(",
            f"        turns, {chosen}tokenize=False, add_generation_prompt=True, date_string={date!r}",
            "    )",
            '    ids = tokenizer(text, add_special_tokens=False)["input_ids"]',
            *_decoding(about, None, "len(ids)"),
            "    predictions.append(said.strip())",
        ),
    )


def _decoding(about: About, ends: Sequence[int] | None, begin: str) -> list[str]:
    """One input's output as text, ``said``; ends: None where they are in a list ``ends``."""
    how, tokenizer = about.evaluation.generation, about.tokenizer
    stop = stop_texts(tokenizer, how.stop)
    more = f", length_penalty={how.length_penalty}" if how.length_penalty != 1 else ""
    more += f", no_repeat_ngram_size={how.no_repeat_ngram}" if how.no_repeat_ngram else ""
    more += f", stop_strings={stop!r}, tokenizer=tokenizer" if stop else ""
    ids = "ends" if ends is None else str(list(ends) if len(ends) > 1 else ends[0])
    lines = [
        "    output = model.generate(",
        "        input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),",
        f"        do_sample=False, num_beams={how.beams}, max_new_tokens={how.max_new_tokens}{more},",
        f"        eos_token_id={ids}, pad_token_id={tokenizer.pad_token_id},",
        "    )",
        f"    new = output[0, {begin}:].tolist()",
    ]
    if ends is None or len(ends) > 1:
        lines.append(f"    new = new[: next((i for i, token in enumerate(new) if token in {ids}), len(new))]")
    lines.append("    said = tokenizer.decode(new, skip_special_tokens=True)")
    return [*lines, *(f"    said = said.partition({text!r})[0]" for text in stop)]


def _asked(about: About) -> tuple[str, ...]:
    """A made-up input."""
    kind = about.data.linearise
    said = f"  # data.linearise: {kind}, as the model has seen its inputs" if kind != "none" else ""
    return (f"inputs = [{LINEARISED.get(kind, 'An input of your own.')!r}]{said}",)


def _texts(about: About) -> tuple[str, ...]:
    """The batch of made-up texts, or pairs."""
    from autolora.tasks.encoding import separator

    drops = "token_type_ids" in about.tokenizer.model_input_names and about.takes
    without = ", return_token_type_ids=False" if drops and "token_type_ids" not in about.takes else ""
    how = f'truncation=True, max_length={about.data.max_length}, padding=True, return_tensors="pt"{without}'
    if len(about.data.columns) == 1:
        return ('inputs = ["A sentence of your own."]', f"batch = tokenizer(inputs, {how})")
    between = separator(about.tokenizer)
    second = f"{between!r} + second" if between else "second"
    return (
        'inputs = [("A sentence of your own.", "And another one.")]',
        f"firsts, seconds = [first for first, _ in inputs], [{second} for _, second in inputs]",
        f"batch = tokenizer(firsts, seconds, {how})",
    )


def _padding(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The token that batches are padded with, by which decoders find the end of a text."""
    own = ("tokenizer.pad_token = tokenizer.eos_token",) if tokenizer.pad_token == tokenizer.eos_token else ()
    config = "model.config.pad_token_id = model.config.get_text_config().pad_token_id = tokenizer.pad_token_id"
    return (*own, 'tokenizer.padding_side = "right"', config)


def _labels(names: Sequence[str]) -> str:
    return "{" + ", ".join(f"{i}: {name!r}" for i, name in enumerate(names)) + "}"


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True) or [""]
