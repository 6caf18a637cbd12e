"""``autolora report RUN...``: the page about runs, comparisons' or others."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autolora.cli import completion
from autolora.cli.options import BaselineOption, IntervalOption, PublishedOption
from autolora.cli.show import written
from autolora.console import screen
from autolora.errors import UserError

if TYPE_CHECKING:
    from autolora.comparison.outcome import Captioned
    from autolora.runs.results import Result
    from autolora.tables import Row

ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--output", metavar="DIR", help="Where the pages go; default: the folder that is named; of several, report."
    ),
]
TitleOption = Annotated[str | None, typer.Option(help="The page's title.")]


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Runs, folders of runs, or a comparison's.",
            autocompletion=completion.reported,
        ),
    ],
    output: ReportOption = None,
    baseline: BaselineOption = None,
    interval: IntervalOption = "t",
    published: PublishedOption = False,
    title: TitleOption = None,
) -> None:
    """Write one self-contained HTML page about runs, and the same in Markdown."""
    folder = output or (runs[0] if len(runs) == 1 else Path("report"))
    files = write_pages(runs, folder, baseline, interval, published=published, title=title)
    written(screen(), *files[:2])


def write_pages(
    runs: Sequence[Path],
    folder: Path,
    baseline: str | None = None,
    interval: str = "t",
    *,
    published: bool = False,
    title: str | None = None,
) -> list[Path]:
    """Write the pages and figures about runs.

    Args:
        runs: Runs, folders of runs, or comparisons'.
        folder: Where they go.
        baseline: See `autolora.comparison.outcome.outcome`, as of the next two.
        interval: "t" or "bootstrap".
        published: Whether published figures are shown, too.
        title: Of the page; None: the recipes' names.

    Returns:
        Their paths, that of the HTML page first.

    Raises:
        UserError: There are no runs, or a file of one is damaged.
    """
    from autolora.comparison.arms import read_arms
    from autolora.comparison.outcome import outcome
    from autolora.report.document import write_report
    from autolora.report.lean import Lean

    light = Lean()  # of each run what is shown of it: thousands of manifests would not fit into memory
    results = [light(result) for result in _each_once(result for target in runs for result in _results(target))]
    tuning = _choosing(runs)
    arms = read_arms(runs[0]) if len(runs) == 1 and _trials_file(runs[0]).is_file() else None
    tables = outcome(results, baseline, interval, published=published, tuning=tuning, arms=arms)
    names = ", ".join(dict.fromkeys(result.recipe for result in results))
    return write_report(results, folder, tables, title or f"autolora: {names}", arms)


def _each_once(results: Iterable[Result]) -> Iterator[Result]:
    """Without runs that are named again: by a folder that they lie in, or by another comparison that has them."""
    seen: set[tuple[Path, str]] = set()
    for result in results:
        key = None if result.run is None else (result.run.resolve(), result.method)
        if key is None or key not in seen:
            yield result
        if key is not None:
            seen.add(key)


def _trials_file(folder: Path) -> Path:
    """Where a comparison lists its runs; earlier versions called the file cells.json."""
    from autolora.runs.folders import TRIALS

    earlier = folder / "cells.json"
    return earlier if earlier.is_file() and not (folder / TRIALS).is_file() else folder / TRIALS


def _choosing(folders: Sequence[Path]) -> Captioned | None:
    """How learning rates, or else the settings of a sweep, were chosen; None where nothing was."""
    from autolora.comparison.choices import STEM, selection_table, tuning_table
    from autolora.comparison.outcome import SELECTION

    for stem, table in ((STEM, tuning_table), (SELECTION, selection_table)):
        if rows := [row for folder in folders for row in _choices(folder, stem)]:
            return table(rows)
    return None


def _choices(folder: Path, stem: str) -> list[Row]:
    """The rows of such a table; nothing where there is none, or where the folder is none of a comparison."""
    from autolora.files import read_json

    file = folder / f"{stem}.json"
    if not file.is_file() or not _trials_file(folder).is_file():
        return []
    rows = read_json(file)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{file} is not the table of a tuning; run autolora compare again")
    return rows


def _trials_of(folder: Path) -> Iterator[Result]:
    """The trials of a comparison, under the words that they were asked for by.

    Raises:
        UserError: The file lists none, one that is not there, or one that has other settings by now.
    """
    from autolora.comparison.arms import FILE
    from autolora.comparison.outcome import SELECTION
    from autolora.comparison.same_settings import Alike
    from autolora.files import read_json
    from autolora.runs.folders import MARKED, is_run
    from autolora.runs.results import read_result
    from autolora.runs.store import Run

    alike, chosen = Alike(), any((folder / name).is_file() for name in (FILE, f"{SELECTION}.json"))
    file = _trials_file(folder)
    listed = read_json(file)
    fault = UserError(f"{file} is not the list of a comparison's runs; run autolora compare again")
    if not isinstance(listed, list) or not listed:
        raise fault
    for trial in listed:
        if not isinstance(trial, dict) or not isinstance(trial.get("run"), str | None):
            raise fault
        if trial.get("run") is None and trial.get("state") == "missing":
            yield _missing(trial, fault)
            continue
        if "run" not in trial or trial["run"] is None:
            raise fault
        path = Path(os.path.normpath(folder / trial["run"]))
        if Path(trial["run"]).is_absolute() or not path.resolve().is_relative_to(_around(folder)):
            raise UserError(f"{file} names a run that lies elsewhere: {path}; run autolora compare again")
        if not is_run(path) and isinstance(trial.get(MARKED), str):
            yield _missing({**trial, "reason": f"its run was removed on {trial[MARKED]}"}, fault)
            continue
        if not is_run(path):
            raise UserError(f"{file} names a run that is not there: {path}; run autolora compare again")
        result = read_result(run := Run.open(path))
        result = replace(result, method=str(trial.get("method", result.method)))
        if result.state == "success":
            alike(run, f"{result.recipe} {result.method}" if chosen else result.recipe)
        yield result


def _around(folder: Path) -> Path:
    """Where the runs of a comparison are: its tables are in ``<root>/comparisons/…``."""
    from autolora.runs.folders import COMPARISONS

    above = [parent.parent for parent in folder.resolve().parents if parent.name == COMPARISONS]
    return above[0] if above else folder.resolve().parent


def _missing(trial: Mapping[str, Any], fault: UserError) -> Result:
    """A trial that was never begun."""
    from autolora.runs.results import Result

    recipe, method, seed, reason = (trial.get(name) for name in ("recipe", "method", "seed", "reason"))
    texts = isinstance(recipe, str) and isinstance(method, str) and isinstance(reason, str | None)
    if not texts or not isinstance(seed, int):
        raise fault
    return Result(str(recipe), str(method), seed, "missing", reason=reason)


def _results(target: Path) -> Iterator[Result]:
    """Those of a run, of all runs below a folder, or of a comparison's folder, one after the other."""
    from autolora.comparison.same_settings import Alike
    from autolora.runs.folders import is_run, run_folders
    from autolora.runs.results import read_result
    from autolora.runs.store import Run

    if is_run(target):
        yield read_result(Run.open(target))
        return
    if _trials_file(target).is_file():
        yield from _trials_of(target)
        return
    found = sorted(run_folders(target))
    if not found:
        raise UserError(f"{target} is no run and holds none; name a run, a folder of runs or a comparison's folder")
    alike = Alike()
    for path in found:
        result = read_result(run := Run.open(path))
        if result.state == "success":  # by method: each may have been run at settings of its own
            alike(run, f"{result.recipe} {result.method}")
        yield result
