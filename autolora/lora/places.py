"""Where a module stands in a model: ``places(names)`` gives layers as rows, projections as columns.

``bert.encoder.layer.3.attention.self.query`` is layer 3, projection ``query``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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
    name, shortened to as few of the last components as tell it from the others, one mostly. Projections are in order of
    appearance.

    Args:
        modules: Full names.
    """
    split = _split(modules)
    paths = list(dict.fromkeys(path for _, path in split.values()))
    layers = sorted({layer for layer, _ in split.values()}, key=lambda layer: (layer == NO_LAYER, layer.zfill(9)))
    rows = {layer: row for row, layer in enumerate(layers)}
    columns = {path: column for column, path in enumerate(paths)}
    cells = {name: (rows[layer], columns[path]) for name, (layer, path) in split.items()}
    return Places(tuple(layers), tuple(_shorten(path, paths) for path in paths), cells)


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


def _split(modules: Iterable[str]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Layer and projection path of every module.

    The path begins after the layer's number, or, where two stacks (encoder, decoder) have the same one, holds what
    comes before the number too.
    """
    split: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {}
    for name in modules:
        parts = tuple(name.split("."))
        at = next((index for index, part in enumerate(parts) if part.isdecimal()), None)
        split[name] = (NO_LAYER, (), parts) if at is None else (str(int(parts[at])), parts[:at], parts[at + 1 :])
    stacks: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for _, before, after in split.values():
        stacks.setdefault(after, set()).add(before)
    return {
        name: (layer, after if after and len(stacks[after]) == 1 else before + after)
        for name, (layer, before, after) in split.items()
    }


def _shorten(path: tuple[str, ...], paths: Sequence[tuple[str, ...]]) -> str:
    for length in range(1, len(path)):
        if sum(other[-length:] == path[-length:] for other in paths) == 1:
            return ".".join(path[-length:])
    return ".".join(path)
