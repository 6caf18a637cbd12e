"""Rows of an input and its outputs, one or several: their texts, and which rows are one example of an evaluation split.

Rows with the same input, as `data.linearise` writes it, are one example with all their outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from autolora.data.splits import Place
from autolora.errors import UserError
from autolora.recipe.schema import Data
from autolora.registry import LINEARISERS
from autolora.tasks.encoding import columns_of


def several(references: str | list[str]) -> list[str]:
    """A cell of references, which may be one text, as a list."""
    return [references] if isinstance(references, str) else references


def check_references(rows: Any, data: Data, place: Place) -> None:
    """Make sure that every input can be written as text, and that every output is text.

    Args:
        rows: Of a split.
        data: The recipe's section.
        place: Where a row stands.

    Raises:
        UserError: A row has something else.
    """
    to_text = LINEARISERS.load(data.linearise)
    for i, (value, references) in enumerate(columns_of(rows, [data.columns[0], data.label], data.label)):
        where = place(i)
        to_text(value, f"{where}: {data.columns[0]!r}")
        if references is None:
            continue
        for reference in several(references):
            if not isinstance(reference, str) or not reference.strip():
                raise UserError(f"{where}: {data.label!r} must be text that is not empty, got {reference!r}")
        if not references:
            raise UserError(f"{where}: {data.label!r} holds no reference")


def pairs_of(rows: Any, data: Data) -> Iterator[tuple[str, str]]:
    """The texts of every input and output, in the rows' order; an input with several outputs comes as often.

    Args:
        rows: Of a split with outputs.
        data: The recipe's section.
    """
    to_text = LINEARISERS.load(data.linearise)
    for value, references in columns_of(rows, [data.columns[0], data.label]):
        for reference in several(references):
            yield to_text(value, "input"), reference.strip()


def groups_of(rows: Any, data: Data) -> list[int]:
    """The example that each row belongs to, from 0 on: by the text of its input.

    Args:
        rows: Of a split.
        data: The recipe's section.
    """
    to_text = LINEARISERS.load(data.linearise)
    found: dict[str, int] = {}
    return [found.setdefault(to_text(value, "input"), len(found)) for (value,) in columns_of(rows, data.columns)]


def grouped(rows: Any, data: Data) -> list[dict[str, Any]]:
    """One example per distinct input, in the order of first appearance.

    Args:
        rows: Of a split.
        data: The recipe's section.

    Returns:
        Each one's raw "input", its "text", "references" and "category".
    """
    to_text = LINEARISERS.load(data.linearise)
    found: dict[str, dict[str, Any]] = {}
    names = [data.columns[0], data.label, *([data.category] if data.category else [])]
    for value, references, *rest in columns_of(rows, names, data.label):
        text = to_text(value, "input")
        example = {"input": value, "text": text, "references": [], "category": rest[0] if rest else None}
        found.setdefault(text, example)["references"] += [] if references is None else several(references)
    return list(found.values())


def first_rows(groups: Sequence[int]) -> Iterator[int]:
    """The first row of each example, in order.

    Args:
        groups: The example of each row.
    """
    first: dict[int, int] = {}
    for row, group in enumerate(groups):
        first.setdefault(group, row)
    return iter(first.values())
