"""Token ids of many texts, a few at a time and truncated as it goes, and examples that take little memory.

    for batch in in_batches(columns_of(rows, ["sentence", "label"]), 1): ...
    pack = Packer()
    example = pack({"input_ids": [2, 5, 3], "label": 1})

A tokenizer holds everything it cuts off until it has done the batch, some hundred bytes a token. So batches have a
number of characters, and of a text far longer than `max_length` only the beginning is given to it.
"""

from __future__ import annotations

import gc
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from autolora.errors import UserError

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

ROWS, CHARACTERS = 1000, 2**21  # of a batch, at most
READ = 100  # rows that are read at once
A_TOKEN = 32  # characters, generously
SELDOM = 50_000  # objects that are made between two looks for cycles
MARGIN = 4  # so many times max_length tokens show that a beginning holds all tokens that are kept


class Packed(Mapping[str, Any]):
    """An example whose lists of numbers take two bytes a number where they can; they are given as lists."""

    __slots__ = ("_cells", "_names")

    def __init__(self, names: tuple[str, ...], cells: tuple[Any, ...]) -> None:
        self._names, self._cells = names, cells

    def __getitem__(self, name: str) -> Any:
        try:
            cell = self._cells[self._names.index(name)]
        except ValueError:
            raise KeyError(name) from None
        return cell.tolist() if isinstance(cell, array) else cell

    @override
    def __contains__(self, name: object) -> bool:  # a Mapping's own makes a list to answer this
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Packer:
    """Packs the examples of a split: ``pack = Packer()``, ``pack({"input_ids": [2, 5, 3], "label": 1})``.

    They share their names and all masks that are the same.
    """

    def __init__(self) -> None:
        self.names: dict[tuple[str, ...], tuple[str, ...]] = {}
        self.masks: dict[bytes, array[int]] = {}

    def __call__(self, example: Mapping[str, Any]) -> Packed:
        """The example with its lists of numbers packed."""
        return self.all({name: [cell] for name, cell in example.items()})[0]

    def all(self, columns: Mapping[str, Sequence[Any]]) -> list[Packed]:
        """Several examples, packed.

        Args:
            columns: The cells of all examples, by name.
        """
        names = tuple(columns)
        shared = self.names.setdefault(names, names)
        packed = (
            [self._numbers(cell, name) if isinstance(cell, list) else cell for cell in cells]
            for name, cells in columns.items()
        )
        return [Packed(shared, cells) for cells in zip(*packed, strict=True)]

    def _numbers(self, cell: list[int], name: str) -> array[int]:
        try:
            numbers = array("H", cell)
        except OverflowError:
            return array("q", cell)
        return numbers if name == "input_ids" else self.masks.setdefault(numbers.tobytes(), numbers)


@contextmanager
def seldom_collecting() -> Iterator[None]:
    """Meanwhile Python looks for cycles of garbage after every `SELDOM` objects, not after every few hundred.

    Encoding makes lists by the hundred thousand, hardly any of them in a cycle, and each look of the last generation
    goes through all that torch and transformers have made. Collecting that is switched off stays off.
    """
    first, *others = gc.get_threshold()
    gc.set_threshold(max(first, SELDOM) if first else 0, *others)
    try:
        yield
    finally:
        gc.set_threshold(first, *others)


def has_column(rows: Any, name: str) -> bool:
    """Whether a `datasets.Dataset`, or a dict of columns, has this column; a split without labels has no label's."""
    return name in getattr(rows, "column_names", rows)


def columns_of(rows: Any, names: Sequence[str], absent: str | None = None) -> Iterator[tuple[Any, ...]]:
    """The rows of a `datasets.Dataset`, or of a dict of columns, as tuples of these columns' cells.

    Args:
        rows: Of a split.
        names: Of the columns.
        absent: The one of them that may not be there; its cells are None then.
    """
    if absent is not None and not has_column(rows, absent):
        places = [i for i, name in enumerate(names) if name == absent]
        for cells in columns_of(rows, [name for name in names if name != absent]):
            filled = list(cells)
            for place in places:
                filled.insert(place, None)
            yield tuple(filled)
        return
    if not hasattr(rows, "iter"):
        yield from zip(*(rows[name] for name in names), strict=True)
        return
    for batch in rows.select_columns(list(dict.fromkeys(names))).iter(READ):
        yield from zip(*(batch[name] for name in names), strict=True)


def in_batches(rows: Iterator[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    """The rows, so many at a time as a tokenizer should get at once; it gets the first `size` cells of each."""
    batch: list[tuple[Any, ...]] = []
    length = 0
    for row in rows:
        more = sum(map(len, row[:size]))
        if batch and (len(batch) >= ROWS or length + more > CHARACTERS):
            yield batch
            batch, length = [], 0
        batch.append(row)
        length += more
    if batch:
        yield batch


def beginning(text: Any, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Any:
    """As much of a text, or of a list of words, as has its first `max_length` tokens; a short one as it is.

    Nothing is left out where the tokenizer cuts texts off at their beginning.
    """
    size = A_TOKEN * max_length
    words = isinstance(text, list)
    while size < len(text) and getattr(tokenizer, "truncation_side", "right") == "right":
        found = tokenizer(text[:size], is_split_into_words=words, add_special_tokens=False, verbose=False)
        if len(found["input_ids"]) >= MARGIN * max_length:
            return text[:size]
        size *= MARGIN
    return text


def wants_spaces(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer takes words for parts of one where nothing stands in front of them.

    Byte-level tokenizers that belong to no class of their own (ModernBERT's, BLOOM's) don't heed add_prefix_space, and
    Gemma's has none. One that puts a space before every word by itself (Llama 2's) would have two with ours.

    Args:
        tokenizer: The model's.

    Raises:
        UserError: It does not say which word a token belongs to.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"{tokenizer.name_or_path}: words need a fast tokenizer, which says which of them a token belongs to; put "
            "its tokenizer.json into the model's folder"
        )
    text, alone, within = (
        tokenizer(given, is_split_into_words=isinstance(given, list), add_special_tokens=False)["input_ids"]
        for given in ("a a", ["a", "a"], ["a", " a"])
    )
    return bool(alone not in (text, within))


def spaced(words: Sequence[str]) -> list[str]:
    """Words with a space in front of each but the first, as they stand in a text."""
    return [*words[:1], *(f" {word}" for word in words[1:])]


def first_pieces(word_ids: Sequence[int | None]) -> list[tuple[int, int]]:
    """(position, word) of the first piece of each word, in order.

    Args:
        word_ids: Of the word that each position belongs to, as a fast tokenizer's encoding gives them.
    """
    found: dict[int, int] = {}
    for position, word in enumerate(word_ids):
        if word is not None:
            found.setdefault(word, position)
    return [(position, word) for word, position in found.items()]


def cut_off(
    encoded: BatchEncoding, tokenizer: PreTrainedTokenizerBase, texts: Sequence[Sequence[Any]], max_length: int
) -> int:
    """How many of a batch's examples lost tokens when they were truncated.

    Args:
        encoded: What the tokenizer made of the batch.
        tokenizer: It.
        texts: What it was given: the texts, or lists of words, of each column.
        max_length: Tokens of an example, at most.
    """
    full = [i for i, ids in enumerate(encoded["input_ids"]) if len(ids) >= max_length]  # no other one can have
    if encoded.encodings is not None:
        return sum(bool(encoded.encodings[i].overflowing) for i in full)
    return sum(_length(tokenizer, [column[i] for column in texts]) > max_length for i in full)


def _length(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Any]) -> int:
    """Tokens of an example that nothing is cut off from."""
    words = isinstance(texts[0], list)
    return len(tokenizer(*texts, is_split_into_words=words, truncation=False, verbose=False)["input_ids"])


def separator(tokenizer: PreTrainedTokenizerBase) -> str:
    """What has to stand before the second text of a pair: nothing where the tokenizer itself parts the two.

    Without it, two different pairs would be the same tokens. It is the tokenizer's separator, or its end of sequence.

    Raises:
        UserError: The tokenizer has neither.
    """
    first, second = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a", "b"))
    joined, together = [*first, *second], list(tokenizer("a", "b")["input_ids"])
    if not any(together[i : i + len(joined)] == joined for i in range(len(together))):
        return ""
    token = tokenizer.sep_token or tokenizer.eos_token
    if token is None:
        raise UserError(
            f"{tokenizer.name_or_path}: data.columns names a pair, and the tokenizer has neither a separator nor an "
            "end-of-sequence token to put between the texts; give it a sep_token in tokenizer_config.json"
        )
    return str(token)
