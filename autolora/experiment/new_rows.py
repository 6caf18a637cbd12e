"""New rows of a recipe's task, read without labels: ``NewRows(recipe.data, family).read(record)``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from autolora.data.cells import Cell, cell, half_character
from autolora.data.reading.records import Record
from autolora.data.reading.table import column_fault
from autolora.errors import UserError
from autolora.recipe.schema import Data
from autolora.tasks.base import Task

UNSAID = ""  # the label's column of rows that have none: no column is called so


class NewRows:
    """What is read of rows: the recipe's input columns, found by their names.

    Args:
        data: The recipe's section.
        family: The task family.
    """

    def __init__(self, data: Data, family: type[Task]) -> None:
        self.data, self.family = data, family
        self.kinds = family.kinds(data)
        self.optional = [name for name in self.kinds if name not in data.columns]  # the label is, too
        self.called: Sequence[str] | None = None  # what the input columns are called there, once it is known

    @property
    def unlabelled(self) -> Data:
        """The section as it is for rows without labels, which are of no category either."""
        return self.data.model_copy(update={"label": UNSAID, "category": None})

    @property
    def wanted(self) -> list[str]:
        """The columns to read, as far as they are there."""
        other = self.data.evaluation.columns if self.data.evaluation else None
        return list(dict.fromkeys([*self.data.columns, *(other or ()), *self.optional]))

    def read(self, record: Record) -> dict[str, Cell]:
        """The cells of a row by column, under the recipe's names.

        Args:
            record: The row; what it has beside is left.

        Raises:
            UserError: A cell is missing, or is none of its kind; the message has the row's place.
        """
        if self.called is None:
            self.called = self._names(record)
        found: dict[str, Cell] = {}
        for name, there in zip(self.data.columns, self.called, strict=True):
            found[name] = self._cell(record, there, self.kinds.get(name, "text"))
        for name in self.optional:
            found[name] = self._optional(record.cells.get(name), name)
        return self.family.asked(found, self.data, record.place)

    def columns(self, rows: Sequence[Mapping[str, Cell]]) -> dict[str, list[Cell]]:
        """Rows as a split has them: by column.

        Args:
            rows: As `read` gives them.
        """
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name) for row in rows] for name in names}

    def _names(self, record: Record) -> Sequence[str]:
        """The recipe's names, or those that the evaluation splits have, where the rows are called as they are."""
        there: Collection[str] = record.cells
        other = self.data.evaluation.columns if self.data.evaluation else None
        if other is not None and not set(self.data.columns) <= set(there) and set(other) <= set(there):
            return other
        for name in self.data.columns:
            if self.kinds.get(name) != "blank" and (wrong := column_fault(list(there), name, record.place)):
                raise UserError("; ".join(filter(None, wrong)))
        return self.data.columns

    def _cell(self, record: Record, name: str, kind: Any) -> Cell:
        try:
            found = cell(record.cells.get(name), kind)
        except UserError as error:
            raise UserError(f"{record.place}: {name!r} {error}") from None
        if found is None:
            raise UserError(f"{record.place}: {name!r} is missing; fill it in, or leave the row out")
        for text in found if isinstance(found, list) else [found]:
            if fault := half_character(text or ""):
                raise UserError(f"{record.place}: {name!r} {fault}")
        return found

    def _optional(self, value: Any, name: str) -> Cell:
        try:
            return cell(value, self.kinds[name])
        except UserError:
            return None
