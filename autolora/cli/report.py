"""``autolora report RUN...``: the page about runs, comparisons' or others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from autolora.cli.options import BaselineOption, IntervalOption, PublishedOption
from autolora.cli.show import written
from autolora.errors import UserError

if TYPE_CHECKING:
    from autolora.runs.results import Result

ReportOption = Annotated[
    Path | None, typer.Option("--output", metavar="DIR", help="Where the pages go; default: the folder of the runs.")
]
TitleOption = Annotated[str | None, typer.Option(help="The page's title.")]


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs, folders of runs, or a comparison's.")],
    output: ReportOption = None,
    baseline: BaselineOption = None,
    interval: IntervalOption = "t",
    published: PublishedOption = False,
    title: TitleOption = None,
) -> None:
    """Write one self-contained HTML page about runs, and the same in Markdown."""
    from autolora.comparison.outcome import outcome
    from autolora.report.document import write_report

    results = [result for target in runs for result in _results(target)]
    tables = outcome(results, baseline, interval, published=published)
    folder = output or (runs[0] if len(runs) == 1 else Path("report"))
    names = ", ".join(dict.fromkeys(result.recipe for result in results))
    files = write_report(results, folder, tables, title or f"autolora: {names}")
    written(Console(), *files[:2])


def _trials_file(folder: Path) -> Path:
    """Where a comparison lists its runs; earlier versions called the file cells.json."""
    from autolora.comparison.outcome import TRIALS

    earlier = folder / "cells.json"
    return earlier if earlier.is_file() and not (folder / TRIALS).is_file() else folder / TRIALS


def _runs_of(folder: Path) -> list[Path]:
    """The runs of a comparison. Raises UserError for a file that lists none, or one that is not there."""
    from autolora.files import read_json
    from autolora.runs.store import is_run

    file = _trials_file(folder)
    found = read_json(file)
    listed = found if isinstance(found, list) else []
    words = [trial.get("run") if isinstance(trial, dict) else None for trial in listed]
    paths = [Path(os.path.normpath(folder / word)) for word in words if isinstance(word, str)]
    if not paths or len(paths) < len(words):
        raise UserError(f"{file} is not the list of a comparison's runs; run autolora compare again")
    if gone := [path for path in paths if not is_run(path)]:
        raise UserError(f"{file} names a run that is not there: {gone[0]}; run autolora compare again")
    return paths


def _results(target: Path) -> list[Result]:
    """Those of a run, of all runs below a folder, or of a comparison's folder."""
    from autolora.runs.results import read_result
    from autolora.runs.store import Run, is_run

    if is_run(target):
        return [read_result(Run.open(target))]
    if _trials_file(target).is_file():
        return [read_result(Run.open(path)) for path in _runs_of(target)]
    found = sorted(path.parent for path in target.rglob("status.json") if is_run(path.parent))
    if not found:
        raise UserError(f"{target} is no run and holds none; name a run, a folder of runs or a comparison's folder")
    return [read_result(Run.open(path)) for path in found]
