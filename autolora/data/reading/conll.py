"""CoNLL files: a word a line with its columns, an empty line between sentences.

U.N.     NNP I-NP B-ORG
official NN  I-NP O

A line with tabs is split at tabs only, one without at blanks. The columns are called by their numbers, counted from 0;
`tokens` and `ner_tags` are the first and the last one. Lines before a sentence that begin with ``#`` are comments
where they have another number of columns than the words, or no tab where those have tabs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial

from autolora.data.reading.source import Source
from autolora.data.reading.table import Row, Table
from autolora.errors import UserError

WORDS, TAGS = "tokens", "ner_tags"
DOCUMENT = "-DOCSTART-"  # the first word of a line that only says that a document begins
COMMENT = "#"
_NO_WORD = re.compile(r"\d+[-.]\d+")  # the number, in CoNLL-U, of what is no word of its own: 3-4, and 8.1
Sentence = list[tuple[int, list[str]]]  # of each word the line and its columns


def open_conll(source: Source) -> Table:
    """A CoNLL file."""
    first = _first_word(source)
    width = len(_fields(first))
    return Table(str(source.path), [WORDS, TAGS, *map(str, range(width))], partial(_rows, source, width, "\t" in first))


def _rows(source: Source, width: int, tabs: bool, wanted: Sequence[str]) -> Iterator[Row]:
    places = [{WORDS: 0, TAGS: width - 1}[name] if name in (WORDS, TAGS) else int(name) for name in wanted]
    counting, longest = WORDS in wanted, 0
    for sentence in _sentences(source, width, tabs):
        counting = counting and [fields[0] for _, fields in sentence] == [str(i + 1) for i in range(len(sentence))]
        longest = max(longest, len(sentence))
        yield sentence[0][0], [[fields[place] for _, fields in sentence] for place in places]
    if counting and longest > 1:
        raise UserError(
            f"{source.path}: the first column counts the words of each sentence; say which columns hold the words and "
            "the tags, counted from 0, for instance: columns: [1], label: 2"
        )


def _first_word(source: Source) -> str:
    """The line of the first word."""
    for number, line in source.lines():
        fields = _fields(line)
        if fields and not line.startswith(COMMENT) and fields[0] != DOCUMENT:
            if len(fields) < 2:
                raise UserError(
                    f"{source.at(number)}: the line must have a word and its tag, at least, got {line[:60]!r}"
                )
            return line
    raise UserError(f"{source.path}: the file has no words")


def _sentences(source: Source, width: int, tabs: bool) -> Iterator[Sentence]:
    sentence: Sentence = []
    for number, line in source.lines():
        fields = _fields(line)
        remark = line.startswith(COMMENT) and (len(fields) != width or (tabs and "\t" not in line))
        if not fields or fields[0] == DOCUMENT:
            if sentence:
                yield sentence
            sentence = []
        elif len(fields) == width and not remark:
            if "" in fields[:1]:
                raise UserError(f"{source.at(number)}: the line has no word, got {line[:60]!r}")
            if source.suffix != ".conllu" or not _NO_WORD.fullmatch(fields[0]):
                sentence.append((number, fields))
        elif sentence or not remark:
            raise UserError(
                f"{source.at(number)}: the line must have {width} columns, as the lines before, got {line[:60]!r}"
            )
    if sentence:
        yield sentence


def _fields(line: str) -> list[str]:
    if not line.strip(" \t"):
        return []
    return line.split("\t") if "\t" in line else [part for part in line.split(" ") if part]
