"""Tables of results: ``write_table(rows, folder, "glue")`` for files, ``render(rows, "GLUE")`` for the terminal.

A row is a mapping from column to a string, a number or None (an empty cell). The columns are those of the first row, in
its order, then what later rows add. Floats have four decimals in Markdown and the terminal, and are in full in CSV and
JSON. The same rows give the same bytes. Texts are written as each of the four takes them (`autolora.safe`): JSON alone
has every text letter for letter.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from autolora import safe
from autolora.files import write_atomic, write_json

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

Cell = str | int | float | None
Row = Mapping[str, Cell]

READABLE = 20  # characters of a column whose cells are folded
RULE = 1  # character at a table's left


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


def render(rows: Sequence[Row], title: str, width: int | None = None) -> RenderableType:
    """The table for a rich console.

    One that is wider than the console has a column for each row. Where that is too wide as well, its columns are shared
    out over several tables, below each other, which all have those that tell the rows apart; what is the same in all
    rows is said once, below them.

    Args:
        rows: From top to bottom.
        title: Above it.
        width: Characters of a line. None: as wide as it gets.
    """
    from rich.console import Group

    columns = column_names(rows)
    cells = [[name, *(show(row.get(name)) for row in rows)] for name in columns]
    widths = dict(zip(columns, _widths(cells), strict=True))
    if width is None or RULE + sum(widths.values()) <= width:
        return _upright(rows, columns, title)
    if RULE + sum(_widths(zip(*cells, strict=True))) <= width or width // (len(rows) + 1) >= READABLE:
        return _turned(rows, title)
    same = [name for name in columns if {row.get(name) for row in rows} == {rows[0].get(name)} and len(rows) > 1]
    key, groups = _shared_out(rows, {name: each for name, each in widths.items() if name not in same}, width)
    tables = [_upright(rows, [*key, *group], "" if i else title, key) for i, group in enumerate(groups)]
    said = "; ".join(f"{name} {show(rows[0].get(name))}" for name in same)
    return Group(*tables, *([_text(f"in all rows: {said}")] if same else []))


def _upright(rows: Sequence[Row], columns: Sequence[str], title: str, key: Sequence[str] = ()) -> Table:
    """A line for each row.

    Args:
        rows: From top to bottom.
        columns: From left to right.
        title: Above it; "" for none.
        key: Columns that are folded before any other is.
    """
    table = _titled(title)
    for name in columns:
        side: Literal["left", "right"] = "right" if is_numeric(rows, name) else "left"
        whole = bool(key) and name not in key and len(columns) > len(key) + 1
        table.add_column(_text(name), justify=side, overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*(_text(show(row.get(name))) for name in columns))
    return table


def _turned(rows: Sequence[Row], title: str) -> Table:
    """A column for each row, the columns' names at the left."""
    table = _titled(title)
    table.show_header = False
    for _ in range(len(rows) + 1):
        table.add_column(justify="right" if table.columns else "left", overflow="fold")
    for name in column_names(rows):
        table.add_row(_text(name), *(_text(show(row.get(name))) for row in rows))
    return table


def _titled(title: str) -> Table:
    from rich.table import Table

    return Table(title=_text(title) if title else None, title_justify="left")


def _shared_out(rows: Sequence[Row], widths: Mapping[str, int], width: int) -> tuple[list[str], list[list[str]]]:
    """The columns that tell the rows apart, and the others in groups that fit beside them.

    Those that tell them apart have half of the width where they need it, and are folded to it.

    Args:
        rows: From top to bottom.
        widths: Characters that each column takes, from left to right.
        width: Those of a line.
    """
    key: list[str] = []
    for name in widths:
        if len({tuple(row.get(each) for each in key) for row in rows}) == len(rows):
            break
        key.append(name)
    else:  # some rows are the same
        key = list(widths)[:1]
    room = width - min(width // 2, RULE + sum(widths[name] for name in key)) - RULE
    others = [name for name in widths if name not in key]
    return key, [others[part] for part in beside_each_other([widths[name] for name in others], room)]


def beside_each_other(widths: Sequence[int], room: int) -> list[slice]:
    """Columns of these widths, as many beside each other as there is room for, one at least.

    Args:
        widths: Characters of each.
        room: Those of a line.
    """
    parts, first, taken = [], 0, 0
    for index, width in enumerate(widths):
        if index > first and taken + width > room:
            parts.append(slice(first, index))
            first, taken = index, 0
        taken += width
    return [*parts, slice(first, len(widths))]


def _columns(text: str) -> int:
    """That a terminal takes for it."""
    from rich.cells import cell_len

    return cell_len(text)


def _text(cell: str) -> Text:
    from rich.text import Text

    return Text(safe.terminal(cell))


def _widths(columns: Iterable[Sequence[str]]) -> list[int]:
    """Characters that each of these columns of cells takes, with two blanks and the rule behind it."""
    return [max(_columns(safe.terminal(cell)) for cell in column) + 3 for column in columns]


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
