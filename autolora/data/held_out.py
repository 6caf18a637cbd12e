"""A part of the training split that is not trained on: ``hold_out(rows, chosen, data, family, seed)``.

`data.splits.held_out` says how large it is. It is a split of its own, called `HELD_OUT`, which whoever wants scores
that no evaluation split has a part in may look at. What is held out are inputs, each with all its rows: a text that is
trained on, or an input of which another reference is, would say nothing about texts that are not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from autolora.data.splits import Report, Seen
from autolora.errors import UserError
from autolora.recipe.schema import Data

if TYPE_CHECKING:
    import datasets

READ_AT_ONCE = 250  # rows in memory


class Grouping(Protocol):
    """What a task family says of rows that belong together."""

    def bundles(self, rows: Any, data: Data) -> Sequence[int] | None:
        """Which rows have to stay on one side, as numbers from 0 on; None where those of one input have."""


@dataclass(frozen=True)
class Division:
    """The training split in two, as positions of its rows.

    Args:
        train: What is trained on, in the order of `chosen`.
        held: What is held out, in the data's order.
        rest: All rows whose input is not held out, in the data's order; those that a limit leaves out among them.
    """

    train: Sequence[int]
    held: Sequence[int]
    rest: Sequence[int]


def hold_out(
    rows: datasets.Dataset,
    chosen: Sequence[int],
    data: Data,
    family: Grouping,
    seed: int,
    *,
    share: float | None = None,
    field: str = "data.splits.held_out",
) -> Division:
    """Divide the rows that `data.limits` leaves of the training split.

    Inputs are drawn until they have as many rows as the share says, or a few more where the last has several.

    Args:
        rows: Of the training split, all of them.
        chosen: The positions of those that the limit leaves.
        data: The recipe's section, whose `splits.held_out` is the share.
        family: Says which rows are one example.
        seed: The recipe's.
        share: Of the rows; None: the section's.
        field: What says so; each draws for itself.

    Raises:
        UserError: One of the two would be empty.
    """
    from autolora.training.seeds import derive  # imports torch, which scoring a file of outputs can do without

    share, inputs = (data.splits.held_out or 0.0) if share is None else share, _inputs(rows, data, family)
    label = "held-out" if field == "data.splits.held_out" else field
    members: dict[int, list[int]] = {}
    for row in chosen:
        members.setdefault(inputs[row], []).append(row)
    names = list(members)
    wanted, taken = round(len(chosen) * share), set()
    held: list[int] = []
    for place in np.random.default_rng(derive(seed, label)).permutation(len(names)):
        if len(held) >= wanted:
            break
        taken.add(names[place])
        held += members[names[place]]
    if not 0 < len(held) < len(chosen):
        raise UserError(
            f"{field}: {share:g} of {len(chosen)} training rows with {len(names)} different inputs holds "
            f"out {len(held)} and leaves {len(chosen) - len(held)}; both need at least one"
        )
    train = [row for row in chosen if inputs[row] not in taken]
    return Division(train, sorted(held), [row for row, name in enumerate(inputs) if name not in taken])


def part_of(report: Report, rows: datasets.Dataset, positions: Sequence[int], column: str | None) -> Report:
    """How a part of a split was read.

    Args:
        report: Of the whole split.
        rows: All rows of the split.
        positions: Of the part's.
        column: Whose labels are counted; None where they are no names.
    """
    found = rows.select(positions, keep_in_memory=True)
    part = replace(report, rows=len(positions), places=report.places.of(positions), labels={}, all_rows=found)
    if column is not None:
        for row, (value,) in enumerate(_cells(found, [column])):
            for name in value if isinstance(value, list) else [value]:
                if name is not None:
                    part.labels.setdefault(name, Seen(0, row)).count += 1
    return part


def _inputs(rows: datasets.Dataset, data: Data, family: Grouping) -> Sequence[int]:
    """Which input each row has, from 0 on."""
    bundles = family.bundles(rows, data)
    if bundles is not None:
        return bundles
    found: dict[str, int] = {}
    return [found.setdefault(json.dumps(cells), len(found)) for cells in _cells(rows, data.columns)]


def _cells(rows: datasets.Dataset, columns: Sequence[str]) -> Any:
    for batch in rows.with_format(None).select_columns(list(columns)).iter(READ_AT_ONCE):
        yield from zip(*(batch[name] for name in columns), strict=True)
