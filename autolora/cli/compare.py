"""``autolora compare``: methods by seeds on one recipe or several, every cell a run, and the table of it all."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from autolora.cli.stages import Options
from autolora.compare.execute import execute
from autolora.compare.plan import Cell, check_plan, plan
from autolora.errors import UserError
from autolora.recipe.load import load_recipe
from autolora.recipe.method import parse_methods, parse_seeds
from autolora.recipe.schema import Recipe
from autolora.recipe.shipped import find_recipe
from autolora.runs.store import Run


def compare(targets: list[str], options: Options, *, methods: str, seeds: str, jobs: int, dry_run: bool) -> None:
    wanted, numbers = parse_methods(methods), parse_seeds(seeds)
    recipes = _recipes(targets, options)
    check_plan(recipes, wanted)
    cells = plan(recipes, wanted, numbers, options.output)
    console = Console(stderr=True)
    todo = [cell for cell in cells if not cell.done]
    said = _Teller(console, len(todo))
    execute(cells, options.output, jobs=jobs, show=jobs == 1, on_begin=said.begin, on_end=said.end)


def _recipes(targets: list[str], options: Options) -> list[Recipe]:
    """The recipes, with the overrides for all of them and those for one (``glue-mini/cola:search.steps=200``)."""
    scoped = [(*text.partition("=")[0].rpartition(":"), text) for text in options.overrides]
    recipes, used = [], set()
    for target in targets:
        path = find_recipe(target)
        name = load_recipe(path, check=False).name
        mine = [text for scope, _, _, text in scoped if scope in ("", name)]
        used |= {scope for scope, _, _, _ in scoped if scope in ("", name)}
        overrides = tuple(text.removeprefix(f"{name}:") for text in mine)
        recipes.append(replace(options, overrides=overrides).read(path))
    if unused := [scope for scope, _, _, _ in scoped if scope not in used]:
        names = ", ".join(recipe.name for recipe in recipes)
        raise UserError(f"--set {unused[0]}:…: none of the recipes is called {unused[0]!r}; they are: {names}")
    return recipes


class _Teller:
    """A line for every cell that begins and ends."""

    def __init__(self, console: Console, total: int) -> None:
        self.console, self.total, self.begun, self.ended = console, total, 0, 0

    def begin(self, cell: Cell, run: Run) -> None:
        self.begun += 1
        self.line(f"[{self.begun} of {self.total}] {cell.name}: {run.path}")

    def end(self, cell: Cell, run: Run, seconds: float) -> None:
        self.ended += 1
        from autolora.compare.results import read_result

        result = read_result(run)
        said = f"{result.metric} {result.score}" if result.state == "success" else f"{result.state}: {result.reason}"
        self.line(f"({self.ended} of {self.total} ended) {cell.name}: {said}, {seconds:.0f} s")

    def line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
