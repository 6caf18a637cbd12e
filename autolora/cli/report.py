"""``autolora report RUN…``: the page about runs, comparisons' or others."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from autolora.compare.outcome import outcome
from autolora.compare.results import Result, read_result
from autolora.compare.table import from_json
from autolora.errors import UserError
from autolora.files import read_json
from autolora.report.document import write_report
from autolora.runs.store import Run, is_run

CELLS = "cells.json"


def report(
    targets: list[Path],
    output: Path | None,
    baseline: str | None,
    interval: str,
    *,
    published: bool = False,
    title: str | None = None,
) -> None:
    results = [result for target in targets for result in _results(target)]
    tables = [(table.caption, table.rows) for table in outcome(results, baseline, interval, published=published)]
    folder = output or (targets[0] if len(targets) == 1 else Path("report"))
    names = ", ".join(dict.fromkeys(result.recipe for result in results))
    written = write_report(results, folder, tables, title or f"autolora: {names}")
    for path in written[:2]:
        Console().print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)


def _results(target: Path) -> list[Result]:
    """Those of a run, of all runs below a folder, or of a comparison's folder."""
    if is_run(target):
        return [read_result(Run.open(target))]
    if (target / CELLS).is_file():
        cells = from_json(read_json(target / CELLS))
        gone = [cell.run for cell in cells if cell.run is not None and not is_run(cell.run)]
        if gone:
            raise UserError(f"{target / CELLS} names a run that is not there: {gone[0]}; run autolora compare again")
        return [read_result(Run.open(cell.run)) for cell in cells if cell.run is not None]
    found = sorted(path.parent for path in target.rglob("status.json") if is_run(path.parent))
    if not found:
        raise UserError(f"{target} is no run and holds none; name a run, a folder of runs or a comparison's folder")
    return [read_result(Run.open(path)) for path in found]
