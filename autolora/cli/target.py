"""Which run a command means: a new one, the one to go on with, the one named, or the newest.

The recipe is read and checked first: torch and transformers are imported only after that.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from autolora.cli.options import Options
from autolora.console import hush, line, screen
from autolora.errors import UserError
from autolora.recipe.load import read_recipe
from autolora.recipe.schema import Recipe
from autolora.recipe.shipped import find_recipe
from autolora.runs.changes import check_unchanged
from autolora.runs.store import Run, is_run, runs, same_runs

if TYPE_CHECKING:
    from autolora.context.base import Context


def begin(target: str, options: Options, *, resume: bool) -> tuple[Run, Context]:
    """A new run of a recipe; with `resume`, the newest run that has the same resolved recipe, or the run named."""
    path = Path(target)
    if is_run(path):
        if not resume:
            raise UserError(f"{path} is a run; add --resume to go on with it, or name a recipe to start a new one")
        return _open(path, options)
    recipe = options.read(find_recipe(target))
    if not resume:
        return _launch(recipe, None, options)
    if same := same_runs(options.runs, recipe):
        return _launch(recipe, same[-1], options)
    raise UserError(
        f"nothing to resume: {options.runs / recipe.name} holds no run of exactly this recipe; leave out --resume to "
        "start one, or name the run's directory"
    )


def existing(target: str | None, options: Options) -> tuple[Run, Context]:
    """The run named, or the newest run (of the recipe named)."""
    if target is not None and is_run(Path(target)):
        return _open(Path(target), options)
    name = None if target is None else options.read(find_recipe(target)).name
    return _open(newest(options.runs, name, target).path, options)


def named(target: str | None, folder: Path) -> Run:
    """The run named, or the newest run below a folder (of the recipe named); whatever the recipe's files are now."""
    if target is not None and Path(target).is_dir():
        return Run.open(Path(target))
    name = None if target is None else read_recipe(find_recipe(target)).name
    return newest(folder, name, target)


def newest(folder: Path, recipe_name: str | None, target: str | None) -> Run:
    """The newest run below a folder.

    Raises:
        UserError: There is none.
    """
    found = runs(folder, recipe_name)
    if not found:
        what = "run" if recipe_name is None else f"run of {recipe_name}"
        raise UserError(f"there is no {what} below {folder}; run: autolora search {target or 'RECIPE'}")
    return found[-1]


def _open(path: Path, options: Options) -> tuple[Run, Context]:
    """An existing run, with the options applied. What its search depended on must stay as it was."""
    run = Run.open(path)
    recipe = options.read(path / "recipe.yaml")
    check_unchanged(run, recipe)
    run.recipe = recipe
    return _launch(recipe, run, options)


def _launch(recipe: Recipe, before: Run | None, options: Options) -> tuple[Run, Context]:
    """The heavy imports, the device, and the run directory: made by the main process, told to the others.

    A new one is made when the data is read and encoded, so that faulty data leaves none behind.
    """
    hush()
    from autolora.context.base import Context
    from autolora.experiment.prepare import prepare

    context = Context(recipe)
    path = ""
    if before is None:
        prepare(context)
    if context.main:
        path = str((before or Run.create(options.runs, recipe)).path)
    path = context.compute.from_main(path)
    run = Run(Path(path), recipe, main=context.main)
    if context.main:
        line(screen(stderr=True), f"run {run.path}")
    return run, context
