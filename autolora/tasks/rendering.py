"""Conversations as tokens, by a chat template, and which of the tokens the assistant says: `Renderer`.

    renderer = Renderer(tokenizer, template)            # template None: the tokenizer's own
    taught = renderer.taught(turns, max_length=512)     # tokens, and which of them are learned

Templates are rendered by transformers, in its sandbox, and tokenised as its ``apply_chat_template`` does: whole, with
no special token but those of the template. What an assistant's turn is, is found in the rendered text:

| | |
|---|---|
| W | the whole conversation, rendered |
| H_k | the turns before turn k with the generation prompt behind, rendered |
| E | the end of a turn: the special token that a template writes after what the assistant has said |

Turn k is W from the end of H_k to the next E, which is part of it. H_k must be a beginning of W, what lies between must
be the turn's text, and all other texts must be in W. A template or a conversation of which this is not so is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autolora.errors import UserError
from autolora.tasks.conversations import Turn, learned_turns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DATE = "26 Jul 2024"  # for templates that write today's: what Meta's say where nobody tells them
SETTING = "data.template"  # where messages about the template itself say that it is
SAID = "Yes"  # by the assistant, in the conversation that shows how a template ends a turn
_THOUGHTS = re.compile(r"<think>.*?</think>|^.*?</think>", re.DOTALL)
_MARKERS = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True)
class Taught:
    """A conversation to learn from.

    Args:
        ids: Tokens, up to the end of the last turn that is kept.
        spans: [begin, end) of the tokens of each of the assistant's turns, one after the other.
        lost: How many turns did not fit, of all roles.
        thoughtless: How many of the assistant's turns the template shows without the thoughts that the data has.
    """

    ids: list[int]
    spans: list[int]
    lost: int
    thoughtless: int


class Renderer:
    """A tokenizer with a chat template.

    Args:
        tokenizer: The model's.
        template: In Jinja; None: the tokenizer's own.
        named: What messages call it.

    Raises:
        UserError: There is no template, or it cannot be used.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str | None, named: str = "") -> None:
        self.tokenizer = tokenizer
        self.named = named or f"the chat template of {tokenizer.name_or_path}"
        self.template = template if template is not None else _own(tokenizer)
        if not tokenizer.is_fast:
            raise UserError(
                f"{tokenizer.name_or_path}: chat data needs a fast tokenizer, which says what text each token is; "
                "put its tokenizer.json into the model's folder"
            )
        if "strftime_now" in self.template and "date_string" not in self.template:
            raise UserError(
                f"{self.named} writes the day's date into every conversation, and results would depend on it; save it "
                "as a .jinja file with a date of its own, and name that in data.template"
            )
        self.marked = bool(_MARKERS.search(self.template))
        sample = self.text([{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": SAID}], SETTING)
        self.end, self.end_id = self._end(sample)
        self.controls = self._controls(sample)

    def text(self, turns: Sequence[Turn], where: str, *, prompt: bool = False) -> str:
        """The conversation as the template writes it.

        Args:
            turns: Oldest first.
            where: The conversation's place, for messages.
            prompt: Whether the assistant is about to say something.

        Raises:
            UserError: The template refuses it.
        """
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    list(turns),
                    chat_template=self.template,
                    tokenize=False,
                    add_generation_prompt=prompt,
                    date_string=DATE,
                )
            )
        except Exception as error:  # whatever a template may raise: its own messages, and errors of its expressions
            said = " ".join(str(error).split())[:200]
            raise UserError(f"{where}: {self.named} cannot write the conversation: {said}") from error

    def asked(self, turns: Sequence[Turn], where: str) -> list[int]:
        """The tokens that the model answers, the generation prompt among them.

        Args:
            turns: The last is the user's.
            where: The conversation's place, for messages.
        """
        self._check_plain(turns, where)
        text = self.text(turns, where, prompt=True)
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def taught(self, turns: Sequence[Turn], where: str, max_length: int | None = None) -> Taught | None:
        """What is learned from a conversation: whole turns, so many as fit, to the assistant's last of them.

        Args:
            turns: The last is the assistant's.
            where: Its place, for messages.
            max_length: Tokens, at most; None: any number.

        Returns:
            None where none of the assistant's turns fits.

        Raises:
            UserError: It cannot be told what the assistant says.
        """
        self._check_plain(turns, where)
        kept = list(turns)
        while True:
            taught = self._taught(kept, where, len(turns) - len(kept))
            if max_length is None or len(taught.ids) <= max_length:
                return taught
            ends = dict(zip(learned_turns(kept), taught.spans[1::2], strict=True))
            fit = [turn for turn, end in ends.items() if end <= max_length and turn < len(kept) - 1]
            if not fit:
                return None
            kept = kept[: fit[-1] + 1]

    def _taught(self, turns: Sequence[Turn], where: str, lost: int) -> Taught:
        whole = self.text(turns, where)
        _check_shown(whole, turns, where, self.named)
        found, thoughtless = [], 0
        for k in learned_turns(turns):
            begin, end = self._span(whole, turns, k, where)
            thoughtless += "</think>" in turns[k]["content"] and "</think>" not in whole[begin:end]
            found.append((begin, end))
        encoded = self.tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = encoded["offset_mapping"]
        spans = [place for begin, end in found for place in _tokens(offsets, begin, end, whole, where)]
        if self.marked:
            self._check_markers(turns, spans, whole, offsets, where)
        return Taught(list(encoded["input_ids"][: spans[-1]]), spans, lost, thoughtless)

    def _span(self, whole: str, turns: Sequence[Turn], k: int, where: str) -> tuple[int, int]:
        """[begin, end) of what the assistant says in turn k, in the whole text."""
        head = self.text(turns[:k], where, prompt=True)
        if not whole.startswith(head):
            raise UserError(
                f"{where}: {self.named} writes what stands before turn {k + 1} in another way when the assistant is "
                "about to answer than when it has answered, so training would not be what is asked later; name another "
                "in data.template"
            )
        end = whole.find(self.end, len(head))
        said = whole[len(head) : end]
        if end < 0 or _bare(said) != _bare(turns[k]["content"]):
            got = f"{said.strip()[:60]!r}" if end >= 0 else f"nothing that ends with {self.end!r}"
            raise UserError(
                f"{where}: after its generation prompt {self.named} writes {got} where the text of turn {k + 1}, "
                f"{turns[k]['content'].strip()[:60]!r}, should stand; name another in data.template"
                + (f", or take {self.end!r} out of the text" if self.end in turns[k]["content"] else "")
            )
        return len(head), end + len(self.end)

    def _end(self, text: str) -> tuple[str, int]:
        """The token that ends a turn: the first after what the assistant has said that is no text."""
        begin = text.rfind(SAID) + len(SAID)
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        special = {*self.tokenizer.all_special_ids, *self.tokenizer.get_added_vocab().values()}
        for id, (first, last) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            if last > begin and text[max(first, begin) : last].strip():
                if id in special and first >= begin:
                    return text[first:last].strip(), id
                break
        ending = text[begin:].strip()
        raise UserError(
            f"data.template: {self.named} ends a turn with {ending[:40]!r}, and the tokenizer of "
            f"{self.tokenizer.name_or_path} has no token for that, so a model would not learn when to stop; take one "
            "that ends turns with a token of this tokenizer ({{ eos_token }}), plain for instance"
        )

    def _controls(self, written: str) -> tuple[str, ...]:
        """The control tokens that the template writes itself, as texts."""
        known = {token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        return tuple(sorted(token for token in known if token.strip() and token in written))

    def _check_plain(self, turns: Sequence[Turn], where: str) -> None:
        """Refuse turns whose text would be read as the template's own: it could make turns that no row has."""
        for i, turn in enumerate(turns, 1):
            if turn["role"] != "assistant" and (found := [each for each in self.controls if each in turn["content"]]):
                raise UserError(
                    f"{where}: the {turn['role']}'s text of turn {i} holds {found[0]!r}, which {self.named} writes "
                    "around turns, so the model would see others than there are; take it out of the text"
                )

    def _check_markers(
        self, turns: Sequence[Turn], spans: Sequence[int], whole: str, offsets: Sequence[tuple[int, int]], where: str
    ) -> None:
        """A template that says itself what is learned must say what was found; white space apart."""
        given: Any = self.tokenizer.apply_chat_template(
            list(turns),
            chat_template=self.template,
            return_assistant_tokens_mask=True,
            return_dict=True,
            date_string=DATE,
        )
        ours = {i for begin, end in zip(spans[::2], spans[1::2], strict=True) for i in range(begin, end)}
        theirs = {i for i, marked in enumerate(given["assistant_masks"]) if marked}
        other = [i for i in sorted(ours ^ theirs) if whole[slice(*offsets[i])].strip()]
        if other:
            raise UserError(
                f"{where}: the generation markers of {self.named} {'leave out' if other[0] in ours else 'hold'} "
                f"{whole[slice(*offsets[other[0]])]!r}, which is "
                f"{'' if other[0] in ours else 'not '}part of what the assistant says; mend the template, or take its "
                "markers out"
            )


def _own(tokenizer: PreTrainedTokenizerBase) -> str:
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:
        raise UserError(
            f"model.name: the tokenizer of {tokenizer.name_or_path} has no chat template of its own; name one in "
            "data.template: plain, chatml, … or a .jinja file"
        ) from error


def _check_shown(whole: str, turns: Sequence[Turn], where: str, named: str) -> None:
    for i, turn in enumerate(turns, 1):
        if turn["role"] != "assistant" and turn["content"].strip() not in whole:
            raise UserError(
                f"{where}: {named} leaves out turn {i}, the {turn['role']}'s {turn['content'].strip()[:60]!r}; name "
                "another in data.template, or take the turn out"
            )


def _bare(text: str) -> str:
    """Without thoughts, which templates show or leave out."""
    return _THOUGHTS.sub("", text).strip()


def _tokens(offsets: Sequence[tuple[int, int]], begin: int, end: int, whole: str, where: str) -> tuple[int, int]:
    """[begin, end) of the tokens of a part of the text."""
    first = next(i for i, (_, stop) in enumerate(offsets) if stop > begin)
    last = next((i for i, (start, _) in enumerate(offsets) if start >= end), len(offsets))
    if whole[offsets[first][0] : begin].strip():
        text = whole[slice(*offsets[first])]
        raise UserError(
            f"{where}: the tokenizer makes one token of {text!r}, half of which the assistant says; name another chat "
            "template in data.template, which ends its generation prompt with a line break"
        )
    return max(first, 1), last
