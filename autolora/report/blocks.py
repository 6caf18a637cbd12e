"""What a report is made of, whatever it is written as: headings, paragraphs, lists, tables, figures, folds.

`autolora.report.html` and `autolora.report.markdown` write a sequence of blocks. Texts are plain: whoever writes them
escapes them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from autolora.tables import Row


@dataclass(frozen=True)
class Heading:
    """A heading of level 2 or 3, with the name that the table of contents links to."""

    level: int
    text: str
    anchor: str


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Lead:
    """The one sentence that stands above all else."""

    text: str


@dataclass(frozen=True)
class Contents:
    """The table of contents of the whole document."""


@dataclass(frozen=True)
class Items:
    """A list."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table with its caption. said: whether the caption is what stands above it, as in a fold of its name."""

    caption: str
    rows: tuple[Row, ...]
    said: bool = False

    @property
    def shown(self) -> tuple[Row, ...]:
        """The first `MOST_ROWS`."""
        return self.rows[:MOST_ROWS]

    @property
    def cut(self) -> str:
        """What is said of rows that are not shown; "" where all are."""
        if len(self.rows) <= MOST_ROWS:
            return ""
        return f"The first {MOST_ROWS} of {len(self.rows)} rows; the CSV files of a comparison have them all."


@dataclass(frozen=True)
class Figure:
    """A PNG file of `autolora.plots.figures.DPI`. alt: what it shows, for those who do not see it."""

    path: Path
    caption: str
    alt: str


@dataclass(frozen=True)
class Gallery:
    """Figures side by side where there is room."""

    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Details:
    """A fold: what is shown on demand, and on paper. opened: whether it is shown at once."""

    summary: str
    blocks: tuple[Block, ...]
    opened: bool = False


Block: TypeAlias = "Heading | Lead | Contents | Text | Items | Table | Gallery | Details"


MOST_ROWS = 2500  # of a table: a page of some megabytes is the most that a browser opens at once
LONGEST = 120  # characters of a name: file systems have a limit, and recipes and methods may be called anything


class Names:
    """Names for files and anchors: of lower-case letters, digits and hyphens, each given once."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def new(self, *words: str) -> str:
        """A name made of the words."""
        stem = "-".join(filter(None, (re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-") for word in words)))
        stem = stem[:LONGEST].rstrip("-") or "part"
        name, number = stem, 1
        while name in self._given:
            number += 1
            name = f"{stem}-{number}"
        self._given.add(name)
        return name


def headings(blocks: Sequence[Block]) -> list[Heading]:
    """The headings, for a table of contents."""
    return [block for block in blocks if isinstance(block, Heading)]
