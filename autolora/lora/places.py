"""Where a module stands in a model: ``places(names)`` gives layers as rows, projections as columns.

``bert.encoder.layer.3.attention.self.query`` is layer 3, projection ``query``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

NO_LAYER = "-"


@dataclass(frozen=True)
class RankTable:
    """Ranks by layer (rows) and projection (columns).

    Args:
        layers: Row labels, from the first layer on.
        projections: Column labels.
        values: Rows of ranks; None where the model has no such module.
    """

    layers: tuple[str, ...]
    projections: tuple[str, ...]
    values: tuple[tuple[int | None, ...], ...]


@dataclass(frozen=True)
class Places:
    """Row and column labels, and the (row, column) of every module."""

    layers: tuple[str, ...]
    projections: tuple[str, ...]
    cells: Mapping[str, tuple[int, int]]


def places(modules: Iterable[str]) -> Places:
    """Where each module goes.

    Its layer is the first number in its name ("-" without one; that row is the last), its projection the rest of the
    name, shortened to as few of the last components as tell it from the others, one mostly. Where two stacks have the
    same one, what tells the stacks apart stands in front (``encoder.q``). Projections are in order of appearance.

    Args:
        modules: Full names.
    """
    split = _split(modules)
    paths = {each.path: each for each in split.values()}
    layers = sorted({each.layer for each in split.values()}, key=lambda layer: (layer == NO_LAYER, layer.zfill(9)))
    rows = {layer: row for row, layer in enumerate(layers)}
    columns = {path: column for column, path in enumerate(paths)}
    cells = {name: (rows[each.layer], columns[each.path]) for name, each in split.items()}
    labels = tuple(_label(each, list(paths.values())) for each in paths.values())
    return Places(tuple(layers), labels, cells)


def rank_table(ranks: Mapping[str, int]) -> RankTable:
    """The ranks as a table.

    Args:
        ranks: By full module name.
    """
    where = places(ranks)
    values: list[list[int | None]] = [[None] * len(where.projections) for _ in where.layers]
    for name, (row, column) in where.cells.items():
        values[row][column] = ranks[name]
    return RankTable(where.layers, where.projections, tuple(tuple(row) for row in values))


@dataclass(frozen=True)
class _Spot:
    """Layer of a module, what comes before and after the layer's number, and the stack that has to be told."""

    layer: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    stack: str | None = None

    @property
    def path(self) -> tuple[str, ...]:
        return self.before + self.after

    @property
    def shown(self) -> tuple[str, ...]:
        """As much of the path as may be needed."""
        return self.after if self.after and self.stack is None else self.path


def _split(modules: Iterable[str]) -> dict[str, _Spot]:
    """Two stacks (encoder, decoder) have the same projection where their names differ in numbers at most."""
    split: dict[str, _Spot] = {}
    for name in modules:
        parts = tuple(name.split("."))
        at = next((index for index, part in enumerate(parts) if part.isdecimal()), None)
        found = (NO_LAYER, (), parts) if at is None else (str(int(parts[at])), parts[:at], parts[at + 1 :])
        split[name] = _Spot(*found)
    stacks: dict[tuple[str, ...], dict[tuple[str, ...], None]] = {}
    for each in split.values():
        stacks.setdefault(_unnumbered(each.after), {})[each.before] = None
    return {
        name: replace(each, stack=_difference(each.before, list(stacks[_unnumbered(each.after)])))
        for name, each in split.items()
    }


def _unnumbered(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("#" if part.isdecimal() else part for part in path)


def _difference(before: tuple[str, ...], stacks: Sequence[tuple[str, ...]]) -> str | None:
    """What tells a stack from the others: its first component that they do not all have."""
    if len(stacks) == 1:
        return None
    return next((part for i, part in enumerate(before) if any(other[i : i + 1] != (part,) for other in stacks)), "")


def _label(spot: _Spot, spots: Sequence[_Spot]) -> str:
    front = [spot.stack] if spot.stack else []
    rivals = [other for other in spots if not front or spot.stack in other.path]
    for length in range(1, len(spot.shown)):
        end = spot.shown[-length:]
        if sum((other.path if front else other.shown)[-length:] == end for other in rivals) == 1:
            return ".".join((*front, *end))
    return ".".join(spot.shown)
