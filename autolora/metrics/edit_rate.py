"""TER's edits as sacrebleu counts them, to the last one, in a fifth of the time: ``edits(hypothesis, reference)``.

Tercom tries hundreds of shifts of words for a sentence, and asks for the edit distance after each. sacrebleu computes a
matrix and the trace through it each time; all that is asked for is the distance, which a row of bits per word gives
(Myers 1999, Hyyrö 2003). The trace is computed once per shift that is made.

Tercom's matrix is a band around the diagonal. Where a path outside of the band could be as short as the distance, and
there only, sacrebleu's own matrix is computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from sacrebleu.metrics import lib_ter
from sacrebleu.metrics.ter import TER
from typing_extensions import override


class Rate(TER):
    """sacrebleu's TER with these edits."""

    @override
    def _compute_segment_statistics(self, hypothesis: str, ref_kwargs: dict[str, Any]) -> list[float]:
        return list(remembered(hypothesis, tuple(map(tuple, ref_kwargs["ref_words"]))))


@lru_cache(maxsize=2**14)  # the examples of a split are scored again with those of their category
def remembered(hypothesis: str, references: tuple[tuple[str, ...], ...]) -> tuple[float, float]:
    """The fewest edits of any reference, and the references' mean length.

    Args:
        hypothesis: Words, with blanks between.
        references: Words of each.
    """
    words = hypothesis.split()
    fewest = min(edits(words, list(reference)) for reference in references)
    return fewest, sum(map(len, references)) / len(references)


def edits(hypothesis: list[str], reference: list[str]) -> int:
    """How many insertions, deletions, substitutions and shifts make the reference of the hypothesis.

    Args:
        hypothesis: Words.
        reference: Words.
    """
    if not reference:
        return len(hypothesis)
    distance = _Distance(reference)
    words, shifts, tried = hypothesis, 0, 0
    while True:
        gain, shifted, tried = lib_ter._shift(words, reference, distance, tried)
        if tried >= lib_ter._MAX_SHIFT_CANDIDATES or gain <= 0:
            return shifts + int(distance(words)[0])
        shifts += 1
        words = shifted


class _Distance(lib_ter.BeamEditDistance):
    """Edit distances from a reference; the trace is computed when it is asked for."""

    def __init__(self, reference: list[str]) -> None:
        super().__init__(reference)
        self.size, self.all = len(reference), (1 << len(reference)) - 1
        self.places: dict[str, int] = {}  # of each word, a bit for each position
        for place, word in enumerate(reference):
            self.places[word] = self.places.get(word, 0) | 1 << place

    @override
    def __call__(self, words_hyp: list[str]) -> Any:
        distance = self._distance(words_hyp)
        if distance >= shortest_outside(len(words_hyp), self.size):
            return super().__call__(words_hyp)
        return _Found(distance, self, words_hyp)

    def matrix(self, words: list[str]) -> tuple[int, str]:
        """Distance and trace."""
        found: tuple[int, str] = super().__call__(words)
        return found

    def _distance(self, words: Sequence[str]) -> int:
        up, down, distance, last = self.all, 0, self.size, 1 << (self.size - 1)
        for word in words:
            same = self.places.get(word, 0)
            level = same | down
            across = (((same & up) + up) ^ up) | same
            more, less = down | ~(across | up) & self.all, up & across
            distance += bool(more & last) - bool(less & last)
            more, less = more << 1 | 1, less << 1
            up, down = (less | ~(level | more)) & self.all, more & level & self.all
        return distance


class _Found:
    """What `BeamEditDistance` gives: the distance, and as the second the trace."""

    def __init__(self, distance: int, edit_distance: _Distance, words: list[str]) -> None:
        self.distance, self.edit_distance, self.words = distance, edit_distance, words

    def __getitem__(self, place: int) -> Any:
        return self.distance if place == 0 else self.edit_distance.matrix(self.words)[place]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.edit_distance.matrix(self.words))


@lru_cache(maxsize=2**14)
def shortest_outside(rows: int, columns: int) -> float:
    """At least so many edits has a path that leaves tercom's band.

    Args:
        rows: Words of the hypothesis.
        columns: Words of the reference.
    """
    if not rows:
        return math.inf
    ratio = columns / rows
    width = lib_ter._BEAM_WIDTH
    if width < ratio / 2:
        width = math.ceil(ratio / 2 + width)
    fewest = math.inf
    for row in range(1, rows + 1):
        middle = math.floor(row * ratio)
        begin, end = max(0, middle - width), columns + 1 if row == rows else min(columns + 1, middle + width)
        for column in (*range(begin), *range(end, columns + 1)):
            fewest = min(fewest, abs(column - row) + abs((columns - column) - (rows - row)))
    return fewest
