"""The scores of a split or of a part of it, as a row of the metrics table: `Scored`; and the one number of them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from autolora.metrics.base import Score
from autolora.tables import Cell, Row


@dataclass(frozen=True)
class Scored:
    """What the metrics gave.

    Args:
        scores: In the order of the table's columns.
        part: Which part of the split it is, as cells in front of the scores; empty where a split has no parts.
        counts: What was counted beside, as cells behind the scores.
        whole: Whether it is all of the split.
    """

    scores: tuple[Score, ...]
    part: Mapping[str, Cell] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    whole: bool = True

    def row(self) -> Row:
        """The row of the table."""
        return {**self.part, **{score.name: score.value for score in self.scores}, **self.counts}


def over_splits(scored: Sequence[Scored]) -> tuple[Score, ...]:
    """The scores over whole splits, averaged over the evaluation splits.

    A score is None where it has no value on one of them.
    """
    whole = [each for each in scored if each.whole]
    found = []
    for place, score in enumerate(whole[0].scores if whole else ()):
        values = [value for each in whole if (value := each.scores[place].value) is not None]
        found.append(replace(score, value=sum(values) / len(values) if len(values) == len(whole) else None))
    return tuple(found)
