"""Instruction tuning: conversations, of which the assistant's turns are learned, by a causal language model.

    task = Chat(recipe.data, recipe.eval, splits)
    examples = task.encode(splits["train"], tokenizer, "train", "train")

To train on, an example is a conversation as the chat template writes it; the loss is on all of the assistant's turns,
the token that ends a turn included. To evaluate, it is what stands before the last of them, and that one the reference.
For the forms of the rows see `autolora.tasks.conversations`, for tokens and turns `autolora.tasks.rendering`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from autolora.data.cells import Cell, Kind
from autolora.data.splits import Place
from autolora.errors import UserError
from autolora.recipe.schema import Data, Eval
from autolora.tasks.base import Purpose, TeacherForced
from autolora.tasks.conversations import (
    SYSTEM,
    TOOLS,
    Turn,
    answered,
    assistants,
    before_answer,
    cells_of,
    conversation,
    key_of,
    learned_turns,
    plain,
)
from autolora.tasks.cut import Cut
from autolora.tasks.encoding import Packer, columns_of
from autolora.tasks.ends import end_tokens, own_ends
from autolora.tasks.family import Wrong
from autolora.tasks.generation import Generation
from autolora.tasks.packing import begins, packed_batch
from autolora.tasks.rendering import DATE, Renderer
from autolora.tasks.spans import labelled, learned, spanned
from autolora.tasks.templates import read_template, template_path

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from autolora.tasks.usage import About, Usage
    from autolora.training.batches import Example, TensorBatch


class Chat(Generation):
    """Conversations, by a causal language model."""

    one_column = ""
    converses = True
    default_metrics = ("rouge_l", "bleu", "chrf")

    @classmethod
    @override
    def faults(cls, data: Data, evaluation: Eval) -> Iterator[Wrong]:
        yield from super().faults(data, evaluation)
        if data.linearise != "none":
            yield "data.linearise", "has no bearing: the chat template writes the conversations", "leave it out"
        if len(data.columns) > 1 and data.label in data.columns:
            yield "data.label", f"{data.label!r} is among data.columns", "name the column of the answers"
        try:
            template_path(data)
        except UserError as error:
            yield "data.template", str(error), "name one that there is, or leave it out for the tokenizer's own"

    @override
    def prepare(self, splits: Mapping[str, Any]) -> None:
        super().prepare(splits)
        reports = getattr(splits, "reports", {})
        self._places = {name: each.places for name, each in reports.items() if each.all_rows is splits.get(name)}
        self._cuts: list[Cut] = []
        self._renderers: dict[int, Renderer] = {}

    @override
    @classmethod
    def kinds(cls, data: Data) -> Mapping[str, Kind]:
        found: dict[str, Kind] = dict.fromkeys((*data.columns, data.label, SYSTEM, TOOLS), "nested")
        for name in data.columns[1:]:  # an instruction's input, which may be empty
            found[name] = "blank"
        return found

    @override
    @classmethod
    def check_rows(cls, rows: Any, data: Data, place: Place) -> None:
        for i, cells in enumerate(cells_of(rows, data)):
            conversation(cells, data, place(i))

    @override
    @classmethod
    def asked(cls, cells: Mapping[str, Cell], data: Data, place: str) -> dict[str, Cell]:
        """The turns before the last of the assistant's, where the answer's column has turns that are part of them."""
        rest = super().asked(cells, data, place)
        said = cells.get(data.label)
        answer = json.loads(said) if isinstance(said, str) else None
        if len(data.columns) > 1 or not isinstance(answer, list):
            return rest
        if not answered(answer) if data.label in data.columns else len(answer) < 2:
            return rest
        turns = before_answer(
            conversation({name: c for name, c in cells.items() if not isinstance(c, list)}, data, place)
        )
        return {**rest, data.columns[0]: json.dumps(turns, ensure_ascii=False), SYSTEM: None}

    @override
    @classmethod
    def groups(cls, rows: Any, data: Data) -> Sequence[int]:
        """By the turns before the last of the assistant's."""
        found: dict[str, int] = {}
        return [
            found.setdefault(key_of(before_answer(conversation(cells, data, "row"))), len(found))
            for cells in cells_of(rows, data)
        ]

    @override
    @classmethod
    def questions(cls, rows: Any, data: Data) -> Iterator[Any]:
        """The turns before the last of the assistant's: a column of whole conversations holds the answers, too."""
        return (plain(before_answer(conversation(cells, data, "row"))) for cells in cells_of(rows, data))

    @override
    @classmethod
    def bundles(cls, rows: Any, data: Data) -> Sequence[int]:
        """Conversations of which one is the beginning of the other: all of the assistant's turns are learned."""
        asked = [_asked_by_turn(conversation(cells, data, "row")) for cells in cells_of(rows, data)]
        last, parents = {keys[-1] for keys in asked}, dict[bytes, bytes]()
        for keys in asked:
            for key in last.intersection(keys):
                parents[_root(parents, key)] = _root(parents, keys[-1])
        found: dict[bytes, int] = {}
        return [found.setdefault(_root(parents, keys[-1]), len(found)) for keys in asked]

    @override
    def grouped(self, rows: Any) -> list[dict[str, Any]]:
        """One example per distinct beginning, in the order of first appearance: turns, references, category."""
        found: dict[str, dict[str, Any]] = {}
        categories = columns_of(rows, [self.data.category]) if self.data.category else None
        for cells in cells_of(rows, self.data):
            turns = conversation(cells, self.data, "row")
            asked = before_answer(turns)
            category = next(categories)[0] if categories else None
            example = {"input": asked, "text": (key := key_of(asked)), "references": [], "category": category}
            found.setdefault(key, example)["references"] += [turn["content"].strip() for turn in turns[len(asked) :]]
        return list(found.values())

    @override
    def key(self, value: Any) -> str:
        if isinstance(value, str):
            try:
                parsed = json.loads(value)
            except ValueError:
                parsed = None
            value = parsed if isinstance(parsed, list) else [{"role": "user", "content": value}]
        try:
            return key_of(value)
        except (AttributeError, KeyError, TypeError):
            return str(value)

    @override
    def sources(self, rows: Any, purpose: Purpose) -> Iterator[int]:
        if purpose == "train":
            return iter(next((cut.kept for cut in self._cuts if cut.rows is rows), range(len(rows))))
        return super().sources(rows, purpose)

    @override
    def targets(self, labels: Iterable[Any]) -> dict[str, float]:
        return {"turns of the assistant": sum(map(assistants, labels))}

    @override
    def lost(self, examples: Sequence[Example]) -> dict[str, int]:
        """Turns of all roles, and conversations of which nothing is left."""
        cut = next((cut for cut in self._cuts if cut.examples is examples), None)
        return {} if cut is None else {"turns": cut.turns, "whole conversations": cut.dropped}

    @override
    def depends_on(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """A hash of the chat template."""
        return hashlib.sha256(self._renderer(tokenizer).template.encode()).hexdigest()

    @override
    def encode(self, rows: Any, tokenizer: PreTrainedTokenizerBase, split: str, purpose: Purpose) -> list[Example]:
        """To train on: one example per conversation. To predict: one per distinct beginning of one."""
        renderer = self._renderer(tokenizer)
        return self._learned(rows, renderer, split) if purpose == "train" else self._predicted(rows, renderer, split)

    def _learned(self, rows: Any, renderer: Renderer, split: str) -> list[Example]:
        """In the rows' order. A conversation that is too long loses whole turns from its end."""
        pack, longest, cut = Packer(), self.data.max_length, Cut(rows)
        for i, cells in enumerate(cells_of(rows, self.data)):
            turns = conversation(cells, self.data, where := self._place(split, i))
            taught = renderer.taught(turns, where, longest)
            if taught is None:
                cut.dropped, cut.turns = cut.dropped + 1, cut.turns + len(turns)
                continue
            cut.kept.append(i)
            cut.turns, cut.shortened = cut.turns + taught.lost, cut.shortened + bool(taught.lost)
            cut.thoughtless += bool(taught.thoughtless)
            every = self.loss_settings.tokens == "all"
            cut.examples.append(pack(spanned(taught.ids, [1, len(taught.ids)] if every else taught.spans)))
        self._cuts.append(cut)
        self.cut_off[split] = cut.shortened
        cut.say(split, longest)
        return cut.examples

    def _predicted(self, rows: Any, renderer: Renderer, split: str) -> list[Example]:
        self.cut_off[split] = 0  # what is too long is refused rather than cut
        found: list[Example] = []
        for example, row in zip(self.grouped(rows), self.sources(rows, "eval"), strict=True):
            ids = renderer.asked(example["input"], where := self._place(split, row))
            if len(ids) >= self.data.max_length:
                raise UserError(
                    f"{where}: what stands before the last answer has {len(ids)} tokens, which leaves none of "
                    f"data.max_length {self.data.max_length} to it; raise data.max_length, or leave the row out"
                )
            found.append({**example, "input_ids": ids})
        return found

    @override
    def teacher_forced(self, rows: Any, tokenizer: PreTrainedTokenizerBase, split: str) -> TeacherForced:
        """A conversation for each reference, of which the last turn alone counts; none is cut at `data.max_length`."""
        renderer = self._renderer(tokenizer)
        found: list[Example] = []
        owners: list[int] = []
        for owner, (example, row) in enumerate(zip(self.grouped(rows), self.sources(rows, "eval"), strict=True)):
            for reference in example["references"]:
                turns = [*example["input"], {"role": "assistant", "content": reference}]
                taught = renderer.taught(turns, self._place(split, row))
                if taught is not None:  # as without a limit it never is
                    found.append(spanned(taught.ids, taught.spans[-2:]))
                    owners.append(owner)
        return found, owners

    def _place(self, split: str, row: int) -> str:
        """Where a row stands, as far as it is known: limits shuffle the rows."""
        return self._places[split](row) if split in self._places else f"split {split!r}, row {row + 1} of those used"

    def _renderer(self, tokenizer: PreTrainedTokenizerBase) -> Renderer:
        if id(tokenizer) not in self._renderers:
            named = f"the chat template {self.data.template!r}" if self.data.template else ""
            self._renderers = {id(tokenizer): Renderer(tokenizer, read_template(self.data), named)}
        return self._renderers[id(tokenizer)]

    @override
    def units(self, examples: Sequence[Example]) -> int:
        """Tokens of the assistant's turns, those that end them included."""
        return sum(map(learned, examples))

    @override
    def collate(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> TensorBatch:
        """A batch to learn from, with several examples in a row where `data.packing` says so; or one to predict."""
        if "learned" not in examples[0]:
            return super().collate(examples, tokenizer)
        if not self.data.packing:
            return self.padded(examples, tokenizer)
        longest = self.data.max_length
        batch = packed_batch(examples, longest, int(tokenizer.pad_token_id))
        return labelled(batch, examples, begins(examples, longest))

    @override
    def padded(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> TensorBatch:
        if "learned" not in examples[0]:
            return super().collate(examples, tokenizer)
        batch = super().collate(examples, tokenizer)
        return labelled(batch, examples, [(row, 0) for row in range(len(examples))])

    @override
    def inputs(self, batch: TensorBatch) -> dict[str, Any]:
        if "position_ids" not in batch:
            return super().inputs(batch)
        from autolora.model.packed import packed_inputs

        return packed_inputs(batch["input_ids"], batch["position_ids"])

    @override
    def ends(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> Sequence[int]:
        """What ends a turn by the template, and what the model's own folder says."""
        return [self._renderer(tokenizer).end_id, *own_ends(model)]

    @override
    def said(self, text: str) -> str:
        """All of it, with its lines."""
        return text.strip()

    @override
    @classmethod
    def usage(cls, about: About) -> Usage | None:
        from autolora.tasks.usage import conversed

        template, stop = read_template(about.data), about.evaluation.generation.stop
        ends = end_tokens(about.tokenizer, stop, [Renderer(about.tokenizer, template).end_id])
        return conversed(about, cls.auto_class, ends, template, DATE)


def _asked_by_turn(turns: Sequence[Turn]) -> list[bytes]:
    """What stands before each of the assistant's turns, as hashes; the last is what an evaluation asks."""
    before = [turns[:k] for k in learned_turns(turns)] or [turns]
    return [hashlib.sha256(key_of(each).encode("utf-8", "surrogatepass")).digest() for each in before]


def _root(parents: dict[bytes, bytes], key: bytes) -> bytes:
    """The one that stands for all that are joined with a key."""
    while (above := parents.get(key, key)) != key:
        parents[key] = parents.get(above, above)
        key = above
    return key
