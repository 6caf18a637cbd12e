"""A report of runs: ``write_report(results, folder, outcome(results), "My comparison")``.

Writes ``report.html``, which is one file with everything in it, and ``report.md`` with ``figures/*.png``. What is drawn
is of the runs that succeeded; a line says of each other one why not. The same runs give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from autolora.comparison.arms import Arms
from autolora.comparison.effects import effects
from autolora.comparison.groups import methods_of, scores_by_task, tasks_of
from autolora.comparison.outcome import DIFFERENCES, Captioned
from autolora.errors import UserError
from autolora.files import write_atomic
from autolora.plots.figures import styles
from autolora.report import html, markdown
from autolora.report.blocks import MOST_ROWS, Block, Contents, Details, Gallery, Heading, Items, Lead, Table, Text
from autolora.report.comparison_sections import difference_section, quality_section
from autolora.report.curve_section import curve_section
from autolora.report.drawings import Drawings
from autolora.report.provenance import failure_lines, provenance_section
from autolora.report.rank_sections import agreement_section, rank_map_section, selection_section
from autolora.report.reading import lead
from autolora.report.sweep_section import sweep_lead, sweep_section
from autolora.report.task_runs import TaskRuns, task_runs
from autolora.runs.results import Result

MOST_TASKS = 12  # whose rank maps and curves are drawn; the tables have them all
MOST_FAILURES = 20  # that are named outside a fold
LEFT_OUT = (
    "Drawn here: the {} methods with the best mean scores. Not drawn, but in the tables: {} more. The rank map and the "
    "curves of one method are on the page that autolora report writes of its runs alone."
)
FURTHER = (
    "Rank maps and curves of {} more tasks are not drawn here; their scores are in the tables. autolora report writes "
    "a page of their runs alone."
)


def write_report(
    results: Sequence[Result],
    folder: Path,
    tables: Sequence[Captioned],
    title: str,
    arms: Arms | None = None,
) -> list[Path]:
    """Write the report into `folder`.

    Args:
        results: Of every trial, successful or not.
        folder: It is made if need be.
        tables: Of the outcome, shown as they are; of the one of differences there is a forest plot.
        title: Of the document.
        arms: Of a sweep, whose scores are drawn against what was varied.

    Returns:
        The paths of its files, the HTML first.

    Raises:
        UserError: There are no results, or a file of a run is damaged.
    """
    if not results:
        raise UserError("a report needs at least one run")
    blocks = report_blocks(results, folder, tables, arms)
    pages = {"report.html": html.pieces(title, blocks), "report.md": markdown.pieces(title, blocks, folder)}
    for name, text in pages.items():
        write_atomic(folder / name, text)
    drawn = [figure.path for block in blocks if isinstance(block, Gallery) for figure in block.figures]
    return [*(folder / name for name in pages), *drawn]


def report_blocks(
    results: Sequence[Result], folder: Path, tables: Sequence[Captioned], arms: Arms | None = None
) -> list[Block]:
    """The content of the report; its figures are written below `folder`."""
    drawings, scores = Drawings(folder, styles(methods_of(results))), scores_by_task(results)
    table = next((table for table in tables if table.stem == DIFFERENCES), None)
    found = effects(table.rows, scores) if table is not None else []
    blocks: list[Block] = [Lead(lead(found, results) if arms is None else sweep_lead(arms, scores))]
    blocks += [] if arms is None else sweep_section(arms, scores, drawings)
    blocks += difference_section(found, table.caption if table is not None else "", drawings)
    blocks += quality_section(scores, found[0].baseline if found else None, drawings)
    blocks += [Text(_summary(results)), *_failures(results), Contents(), *_tables(tables)]
    for task in islice(task_runs(results, drawings), MOST_TASKS):
        blocks += _task_blocks(task)
    if (more := len(tasks_of(results)) - MOST_TASKS) > 0:
        blocks += [Heading(2, "Further tasks", drawings.names.new("further tasks")), Text(FURTHER.format(more))]
    return [*blocks, *provenance_section(results)]


def _tables(tables: Sequence[Captioned]) -> list[Block]:
    """Each behind a fold of its name, of which the first is open; its notes below, for all to see."""
    blocks: list[Block] = [Heading(2, "Tables", "tables")] if tables else []
    for place, table in enumerate(tables):
        shown = Table(table.caption, tuple(table.rows), said=True)
        blocks += [Details(table.caption, (shown,), opened=place == 0), *map(Text, table.notes)]
    return blocks


def _task_blocks(task: TaskRuns) -> list[Block]:
    heading = Heading(2, task.name, task.drawings.names.new("task", task.name))
    if not task.methods:
        return [heading, Text("No run of this task succeeded.")]
    sections = (rank_map_section, agreement_section, selection_section, curve_section)
    note = [Text(LEFT_OUT.format(len(task.methods), task.left_out))] if task.left_out else []
    return [heading, *note, *(block for section in sections for block in section(task))]


def _failures(results: Sequence[Result]) -> list[Block]:
    lines = failure_lines(results)
    if not lines:
        return []
    said = "1 run did not succeed" if len(lines) == 1 else f"{len(lines)} runs did not succeed"
    text = Text(f"{said} and is in no figure:" if len(lines) == 1 else f"{said} and are in no figure:")
    blocks: list[Block] = [text, Items(lines[:MOST_FAILURES])]
    if more := lines[MOST_FAILURES:MOST_ROWS]:
        blocks.append(Details(f"{len(lines) - MOST_FAILURES} more that did not succeed", (Items(more),)))
    return blocks


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
