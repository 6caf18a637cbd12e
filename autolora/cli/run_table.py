"""The list of runs: a table that fits the terminal, tab-separated values for a pipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.table import Table
from rich.text import Text

from autolora import safe
from autolora.runs.choosing import made_at
from autolora.runs.summary import FAILED, FINISHED, INTERRUPTED, PARTIAL, RUNNING, UNREADABLE, Summary

STYLES = {
    FINISHED: "green",
    RUNNING: "cyan",
    FAILED: "red",
    UNREADABLE: "red",
    INTERRUPTED: "yellow",
    PARTIAL: "yellow",
}
CUT = "…"
_FEWEST = 8  # characters that a column is cut to
_AGES = ((365 * 86400, "y"), (7 * 86400, "w"), (86400, "d"), (3600, "h"), (60, "min"))
_RIGHT = ("seed", "score", "size", "disk", "age", "took")
# Which go first where the terminal is narrow, and which are cut then: names at their beginnings, which are shared.
_LEAVE_OUT = ("path", "took", "disk", "metric")
_CUT_FRONT, _CUT_END = ("recipe",), ("method", "metric")


def table(runs: Sequence[Summary], names: Mapping[str, str], now: datetime, width: int) -> Table:
    """The table for a terminal.

    Args:
        runs: From top to bottom.
        names: Short name by path.
        now: Which ages are counted from.
        width: Characters of a line.
    """
    columns = _columns(runs, names, now)
    if all(run.metric in (None, _one_metric(runs)) for run in runs) and _one_metric(runs):
        columns.pop("metric")
        columns = {(_one_metric(runs) if name == "score" else name) or "score": each for name, each in columns.items()}
    widths = _fit({name: max(cell_len(name), *map(cell_len, each)) for name, each in columns.items()}, width)
    shown = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), expand=False)
    right = {*_RIGHT, _one_metric(runs)}
    for name in widths:
        title = Text(_cut(name, widths[name], front=False))
        shown.add_column(title, justify="right" if name in right else "left", no_wrap=True, width=widths[name])
    for i, run in enumerate(runs):
        cells = (
            Text(
                _cut(columns[name][i], widths[name], front=name in _CUT_FRONT),
                style=STYLES.get(run.state, "") if name == "state" else "",
            )
            for name in widths
        )
        shown.add_row(*cells)
    return shown


def tab_separated(records: Sequence[Mapping[str, Any]]) -> str:
    """A head and a line for each run, with everything in full.

    Args:
        records: Of `autolora.runs.choosing.record`.
    """
    if not records:
        return ""
    lines = [list(records[0]), *([_plain(value) for value in each.values()] for each in records)]
    return "".join("\t".join(line) + "\n" for line in lines)


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return safe.one_line(str(value))


def _columns(runs: Sequence[Summary], names: Mapping[str, str], now: datetime) -> dict[str, list[str]]:
    """The cells of each column."""
    cells: dict[str, Callable[[Summary], str]] = {
        "id": lambda run: names[run.path],
        "state": lambda run: run.state,
        "recipe": lambda run: run.recipe or run.path,
        "method": lambda run: f"{run.method}{' (tuning)' if run.tuning else ''}",
        "seed": lambda run: "" if run.seed is None else str(run.seed),
        "metric": lambda run: run.metric or "",
        "score": lambda run: "" if run.score is None else f"{run.score:.4f}",
        "size": lambda run: count(run.parameters),
        "disk": lambda run: amount(run.size),
        "took": lambda run: "" if run.seconds is None else span(run.seconds),
        "age": lambda run: age(run.created, now),
        "path": lambda run: run.path,
    }
    return {name: [safe.one_line(cell(run)) for run in runs] for name, cell in cells.items()}


def _one_metric(runs: Sequence[Summary]) -> str | None:
    """The metric, where all that have a score have the same."""
    found = {run.metric for run in runs if run.metric is not None}
    return found.pop() if len(found) == 1 else None


def _fit(natural: Mapping[str, int], width: int) -> dict[str, int]:
    """How wide each column is, of those that there is room for."""
    widths = dict(natural)
    cut = [name for name in (*_CUT_FRONT, *_CUT_END) if name in widths]

    def over() -> int:
        return sum(widths.values()) + len(widths) - width

    for name in _LEAVE_OUT:
        least = sum(max(0, widths[each] - 2 * _FEWEST) for each in cut if each != name)
        if name in widths and over() > least:
            del widths[name]
            cut = [each for each in cut if each != name]
    while over() > 0 and (widest := max(cut, key=lambda name: widths[name])) and widths[widest] > _FEWEST:
        widths[widest] -= 1
    return widths


def _cut(text: str, width: int, *, front: bool) -> str:
    """A text in so many cells: of one that is longer the end, or the beginning, with a mark of what is gone."""
    if cell_len(text) <= width:
        return text
    if front:
        while text and cell_len(text) > width - 1:
            text = text[1:]
        return CUT + text
    return set_cell_size(text, max(0, width - 1)).rstrip() + CUT


def count(number: int | None) -> str:
    """A number of parameters in a few characters: ``331.8k``.

    Args:
        number: None: not known.
    """
    if number is None:
        return ""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)


def amount(number: float) -> str:
    """A number of bytes in a few characters: ``1.4 MiB``.

    Args:
        number: Of bytes.
    """
    for size, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f} B"


def span(seconds: float) -> str:
    """A time in a few characters: ``40 s``, ``12 min``, ``2 h``.

    Args:
        seconds: Not negative.
    """
    for size, unit in _AGES:
        if seconds >= 2 * size or (unit == "min" and seconds >= 90):
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def age(created: str, now: datetime) -> str:
    """How long ago a run was made.

    Args:
        created: When, in ISO 8601.
        now: Which it is counted from.
    """
    made = made_at(created)
    return "" if made is None else span((now - made).total_seconds())
