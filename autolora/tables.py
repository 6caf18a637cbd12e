"""Tables of results: ``write_table(rows, folder, "glue")`` for files, ``render(rows, "GLUE")`` for the terminal.

A row is a mapping from column to a string, a number or None (an empty cell). The columns are those of the first row, in
its order, then what later rows add. Floats have four decimals in Markdown and the terminal, and are in full in CSV and
JSON. The same rows give the same bytes. Texts are written as each of the four takes them (`autolora.safe`): JSON alone
has every text letter for letter.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autolora import safe
from autolora.files import write_atomic, write_json

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Cell = str | int | float | None
Row = Mapping[str, Cell]


def write_table(rows: Sequence[Row], folder: Path, stem: str) -> list[Path]:
    """Write ``<stem>.md``, ``<stem>.csv`` and ``<stem>.json`` into `folder`, and return their paths.

    Args:
        rows: From top to bottom.
        folder: It is made if need be.
        stem: Of the files' names.

    Raises:
        ValueError: A number is not finite; nothing is written.
    """
    markdown, comma, json = (folder / f"{stem}.{suffix}" for suffix in ("md", "csv", "json"))
    write_json(json, [dict(row) for row in rows])  # first, as it refuses what is not finite
    write_atomic(markdown, to_markdown(rows))
    write_atomic(comma, _to_csv(rows))
    return [markdown, comma, json]


def render(rows: Sequence[Row], title: str, width: int | None = None) -> Table:
    """The table for a rich console.

    Args:
        rows: From top to bottom.
        title: Above it.
        width: Characters of a line; a wider table has a column for each row. None: as wide as it gets.
    """
    from rich.table import Table

    table = Table(title=_text(title), title_justify="left")
    columns = column_names(rows)
    if width is not None and _natural_width(rows) > width:
        table.show_header = False
        for _ in range(len(rows) + 1):
            table.add_column(justify="left" if not table.columns else "right", overflow="fold")
        for column in columns:
            table.add_row(_text(column), *(_text(show(row.get(column))) for row in rows))
        return table
    for column in columns:
        table.add_column(_text(column), justify="right" if is_numeric(rows, column) else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(show(row.get(column))) for column in columns))
    return table


def _columns(text: str) -> int:
    """That a terminal takes for it."""
    from rich.cells import cell_len

    return cell_len(text)


def _text(cell: str) -> Text:
    from rich.text import Text

    return Text(safe.terminal(cell))


def _natural_width(rows: Sequence[Row]) -> int:
    """Characters of a line, with two blanks and a rule for each column."""
    columns = column_names(rows)
    cells = ([name, *(show(row.get(name)) for row in rows)] for name in columns)
    return 1 + sum(max(_columns(safe.terminal(cell)) for cell in column) + 3 for column in cells)


def to_markdown(rows: Sequence[Row]) -> str:
    """The table in Markdown, its columns aligned for those who read the text as it is; "" for no rows.

    Args:
        rows: From top to bottom.
    """
    if not rows:
        return ""
    columns = column_names(rows)
    right = [is_numeric(rows, column) for column in columns]
    lines = [columns, *([show(row.get(column)) for column in columns] for row in rows)]
    cells = [[safe.markdown_cell(cell) for cell in line] for line in lines]
    widths = [max(3, *map(_columns, column)) for column in zip(*cells, strict=True)]
    rule = ["-" * (width - 1) + ":" if end else "-" * width for width, end in zip(widths, right, strict=True)]
    cells.insert(1, rule)
    return "".join(_line(line, widths, right) for line in cells)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = []
    for cell, width, end in zip(cells, widths, right, strict=True):
        space = " " * (width - _columns(cell))
        padded.append(space + cell if end else cell + space)
    return f"| {' | '.join(padded)} |\n"


def column_names(rows: Sequence[Row]) -> list[str]:
    """The columns of all rows: those of the first row, in its order, then what later rows add."""
    return list(dict.fromkeys(column for row in rows for column in row))


def is_numeric(rows: Sequence[Row], column: str) -> bool:
    """Whether a column has numbers and nothing else, so that it is set flush right.

    Args:
        rows: Of the table.
        column: Its name.
    """
    values = [row[column] for row in rows if row.get(column) is not None]
    return bool(values) and all(isinstance(value, int | float) for value in values)


def show(value: Cell) -> str:
    """A cell as text: floats with four decimals, None as nothing."""
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def csv_line(cells: Sequence[Cell]) -> str:
    """A line of a CSV file, which no spreadsheet takes a formula from (`autolora.safe.csv_cell`).

    Args:
        cells: Texts as they are, numbers, or None for an empty one.
    """
    text = io.StringIO()
    shown = [safe.csv_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    csv.writer(text, lineterminator="\n").writerow(shown)
    return text.getvalue()


def _to_csv(rows: Sequence[Row]) -> str:
    columns = column_names(rows)
    lines: list[list[Cell]] = [[*columns], *([row.get(column) for column in columns] for row in rows)] if rows else []
    return "".join(map(csv_line, lines))
