"""``autolora report RUN…``: the page about runs, comparisons' or others."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

from autolora.compare.outcome import CELLS, outcome
from autolora.compare.results import Result, read_result
from autolora.errors import UserError
from autolora.files import read_json
from autolora.report.document import write_report
from autolora.runs.store import Run, is_run


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


def _runs_of(folder: Path) -> list[Path]:
    """The runs of a comparison. Raises UserError for a file that lists none, or one that is not there."""
    cells = read_json(folder / CELLS)
    words = [cell.get("run") if isinstance(cell, dict) else None for cell in cells] if isinstance(cells, list) else []
    paths = [Path(os.path.normpath(folder / word)) for word in words if isinstance(word, str)]
    if not paths or len(paths) < len(words):
        raise UserError(f"{folder / CELLS} is not the list of a comparison's runs; run autolora compare again")
    if gone := [path for path in paths if not is_run(path)]:
        raise UserError(f"{folder / CELLS} names a run that is not there: {gone[0]}; run autolora compare again")
    return paths


def _results(target: Path) -> list[Result]:
    """Those of a run, of all runs below a folder, or of a comparison's folder."""
    if is_run(target):
        return [read_result(Run.open(target))]
    if (target / CELLS).is_file():
        return [read_result(Run.open(path)) for path in _runs_of(target)]
    found = sorted(path.parent for path in target.rglob("status.json") if is_run(path.parent))
    if not found:
        raise UserError(f"{target} is no run and holds none; name a run, a folder of runs or a comparison's folder")
    return [read_result(Run.open(path)) for path in found]
