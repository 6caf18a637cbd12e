"""A report of runs: ``write_report(results, folder, [("Summary", rows)], "My comparison")``.

Writes ``report.html``, which is one file with everything in it, and ``report.md`` with ``figures/*.png``. What is drawn
is of the runs that succeeded; a line says of each other one why not. The same runs give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autolora.comparison.groups import methods_of, tasks_of
from autolora.errors import UserError
from autolora.files import write_atomic
from autolora.report import html, markdown
from autolora.report.blocks import Block, Gallery, Heading, Items, Table, Text
from autolora.report.outcome_sections import curve_section, quality_section
from autolora.report.provenance import failure_lines, provenance_section
from autolora.report.rank_sections import agreement_section, rank_map_section, selection_section
from autolora.report.task_runs import TaskRuns, task_runs
from autolora.runs.results import Result
from autolora.tables import Row


def write_report(
    results: Sequence[Result],
    folder: Path,
    tables: Sequence[tuple[str, Sequence[Row]]],
    title: str,
) -> list[Path]:
    """Write the report into `folder`.

    Args:
        results: Of every trial, successful or not.
        folder: It is made if need be.
        tables: Captions and rows, shown as they are.
        title: Of the document.

    Returns:
        The paths of its files, the HTML first.

    Raises:
        UserError: There are no results, or a file of a run is damaged.
    """
    if not results:
        raise UserError("a report needs at least one run")
    blocks = report_blocks(results, folder, tables)
    pages = {"report.html": html.page(title, blocks), "report.md": markdown.page(title, blocks, folder)}
    for name, text in pages.items():
        write_atomic(folder / name, text)
    drawn = [figure.path for block in blocks if isinstance(block, Gallery) for figure in block.figures]
    return [*(folder / name for name in pages), *drawn]


def report_blocks(results: Sequence[Result], folder: Path, tables: Sequence[tuple[str, Sequence[Row]]]) -> list[Block]:
    """The content of the report; its figures are written below `folder`."""
    blocks: list[Block] = [Text(_summary(results))]
    blocks += _failures(results)
    if tables:
        blocks.append(Heading(2, "Tables", "tables"))
        blocks += [Table(caption, tuple(rows)) for caption, rows in tables]
    for task in task_runs(results, folder):
        blocks += _task_blocks(task)
    return [*blocks, *provenance_section(results)]


def _task_blocks(task: TaskRuns) -> list[Block]:
    heading = Heading(2, task.name, task.names.new("task", task.name))
    if not task.methods:
        return [heading, Text("No run of this task succeeded.")]
    sections = (rank_map_section, agreement_section, selection_section, curve_section, quality_section)
    return [heading, *(block for section in sections for block in section(task))]


def _failures(results: Sequence[Result]) -> list[Block]:
    lines = failure_lines(results)
    if not lines:
        return []
    said = "1 run did not succeed" if len(lines) == 1 else f"{len(lines)} runs did not succeed"
    return [Text(f"{said} and is in no figure:" if len(lines) == 1 else f"{said} and are in no figure:"), Items(lines)]


def _summary(results: Sequence[Result]) -> str:
    """One line: ``140 runs: 4 tasks, 7 methods, 5 seeds.``."""
    counts = {
        "task": len(tasks_of(results)),
        "method": len(methods_of(results)),
        "seed": len({each.seed for each in results}),
    }
    parts = [_count(number, word) for word, number in counts.items()]
    return f"{_count(len(results), 'run')}: {', '.join(parts)}."


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
