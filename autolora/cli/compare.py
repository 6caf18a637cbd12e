"""``autolora compare``: methods by seeds on one recipe or several, every cell a run, and the tables of it all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from autolora.cli.stages import Options
from autolora.compare.estimate import estimates, in_words
from autolora.compare.execute import execute
from autolora.compare.outcome import Captioned, outcome, write_outcome
from autolora.compare.plan import Cell, check_plan, plan
from autolora.compare.results import Result, read_result
from autolora.compare.statistics import check_interval
from autolora.errors import UserError
from autolora.recipe.load import load_recipe
from autolora.recipe.method import label, parse_methods, parse_seeds
from autolora.recipe.schema import Method, Recipe
from autolora.recipe.shipped import find_recipe
from autolora.report.tables import render
from autolora.runs.store import Run


@dataclass(frozen=True)
class Settings:
    """The options that only this command has."""

    methods: str
    seeds: str
    baseline: str | None
    interval: str
    published: bool
    jobs: int
    dry_run: bool


def compare(targets: list[str], options: Options, settings: Settings) -> int:
    """Run what is not there yet, and write the tables. Returns how many cells have failed."""
    methods, seeds = parse_methods(settings.methods), parse_seeds(settings.seeds)
    _check_baseline(settings.baseline, methods)
    check_interval(settings.interval)
    recipes = _recipes(targets, options)
    check_plan(recipes, methods)
    cells = plan(recipes, methods, seeds, options.output)
    console = Console(stderr=True)
    todo = [cell for cell in cells if not cell.done]
    if todo:
        _show_plan(console, cells, settings.jobs)
    if settings.dry_run:
        for cell in cells:
            console.print(_plan_line(cell), markup=False, highlight=False, soft_wrap=True)
        return 0
    said = _Teller(console, len(todo))
    show = settings.jobs == 1
    runs = execute(cells, options.output, jobs=settings.jobs, show=show, on_begin=said.begin, on_end=said.end)
    found = [read_result(run) for cell, run in zip(cells, runs, strict=True) if cell.wanted]
    results = _in_order(found, recipes, methods)
    tables = outcome(results, settings.baseline, settings.interval, published=settings.published)
    folder = comparison_folder(options.output, recipes)
    written = write_outcome(tables, results, folder, published=settings.published)
    show_tables(tables)
    stdout = Console()
    for path in written:
        if path.suffix in (".md", ".tex") or path.name == "cells.json":
            stdout.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
    stdout.print(f"a page of it all: autolora report {folder}", markup=False, highlight=False, soft_wrap=True)
    return sum(result.state != "success" for result in results)


def show_tables(tables: Sequence[Captioned]) -> None:
    """The tables on standard output."""
    console = Console()
    for table in tables:
        console.print(render(table.narrow, table.caption, console.width))


def comparison_folder(root: Path, recipes: Sequence[Recipe]) -> Path:
    """Where the tables go: one place for the same recipes, whatever the methods and seeds."""
    names = sorted(recipe.name for recipe in recipes)
    if len(names) == 1:
        return root / "comparisons" / names[0]
    folders = {name.rpartition("/")[0] for name in names}
    ends = "-".join(name.rpartition("/")[2] for name in names)
    front = folders.pop() if len(folders) == 1 else "several"
    return root / "comparisons" / re.sub(r"^/", "", f"{front}/{ends}")


def _check_baseline(baseline: str | None, methods: Sequence[Method]) -> None:
    words = [label(method) for method in methods]
    if baseline is not None and baseline not in words:
        raise UserError(f"--baseline: {baseline!r} is not one of the methods compared: {', '.join(words)}")


def _recipes(targets: list[str], options: Options) -> list[Recipe]:
    """The recipes, with the overrides for all of them and those for one (``glue-mini/cola:search.steps=200``)."""
    scoped = [(text.partition("=")[0].rpartition(":")[0], text) for text in options.overrides]
    recipes: list[Recipe] = []
    used: set[str] = set()
    for target in targets:
        path = find_recipe(target)
        name = load_recipe(path, check=False).name
        mine = [(scope, text) for scope, text in scoped if scope in ("", name)]
        used |= {scope for scope, _ in mine}
        overrides = tuple(text.removeprefix(f"{scope}:") for scope, text in mine)
        recipes.append(replace(options, overrides=overrides).read(path))
    if unused := [scope for scope, _ in scoped if scope not in used]:
        names = ", ".join(recipe.name for recipe in recipes)
        raise UserError(f"--set {unused[0]}:…: none of the recipes is called {unused[0]!r}; they are: {names}")
    return recipes


def _in_order(results: list[Result], recipes: Sequence[Recipe], methods: Sequence[Method]) -> list[Result]:
    """By recipe, method and seed, as they were asked for."""
    names, words = [recipe.name for recipe in recipes], [label(method) for method in methods]
    return sorted(results, key=lambda r: (names.index(r.recipe), words.index(r.method), r.seed))


def _show_plan(console: Console, cells: Sequence[Cell], jobs: int) -> None:
    """Cells, steps, time and disk, before anything is run."""
    console.print("timing a few steps of every recipe for the estimate", markup=False)
    found = estimates(cells)
    console.print(render([estimate.row() for estimate in found], "Plan", console.width))
    for estimate in found:
        if estimate.problem:
            console.print(f"{estimate.recipe}: no estimate: {estimate.problem}", markup=False, soft_wrap=True)
    if all(estimate.seconds is None for estimate in found):
        console.print("nothing could be timed: there is no estimate of time and disk", markup=False)
        return
    seconds = sum(estimate.seconds or 0.0 for estimate in found) / jobs
    size = sum(estimate.size or 0 for estimate in found)
    known = "" if all(estimate.seconds is not None for estimate in found) else " for the recipes that could be timed"
    jobs_said = f" with {jobs} cells at a time" if jobs > 1 else ""
    console.print(
        f"about {in_words(seconds)} of training{jobs_said} and {size / 2**20:.0f} MiB{known}; evaluation comes on top",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _plan_line(cell: Cell) -> str:
    what = "done" if cell.done else "to go on with" if cell.run else "to run"
    brought = "" if cell.wanted else " (built on by others)"
    return f"{what}: {cell.name}{brought}{f': {cell.run.path}' if cell.run else ''}"


class _Teller:
    """A line for every cell that begins and ends."""

    def __init__(self, console: Console, total: int) -> None:
        self.console, self.total, self.begun, self.ended = console, total, 0, 0

    def begin(self, cell: Cell, run: Run) -> None:
        self.begun += 1
        self.line(f"[{self.begun} of {self.total}] {cell.name}: {run.path}")

    def end(self, cell: Cell, run: Run, seconds: float) -> None:
        self.ended += 1
        result = read_result(run)
        said = f"{result.state}: {result.reason}"
        if result.state == "success":
            said = f"{result.metric} {'has no value' if result.score is None else f'{result.score:.4f}'}"
        self.line(f"({self.ended} of {self.total} ended) {cell.name}: {said}, {seconds:.0f} s")

    def line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
