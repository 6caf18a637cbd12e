"""Which run a command means: a new one, the one to go on with, the one named, or the newest.

The recipe is read and checked first: torch and transformers are imported only after that.
"""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from autolora.cli.options import Options
from autolora.console import hush, line, screen
from autolora.errors import UserError
from autolora.recipe.load import read_recipe
from autolora.recipe.schema import Recipe
from autolora.recipe.shipped import find_recipe, shipped
from autolora.runs import listing
from autolora.runs.changes import check_unchanged
from autolora.runs.folders import is_run
from autolora.runs.reach import check_reach
from autolora.runs.resume import has_begun, to_resume
from autolora.runs.store import Run

if TYPE_CHECKING:
    from autolora.context.base import Context

# What tells recipes apart that have the same name, of files in two folders for instance.
ABOUT = ("task", "model.name", *(f"data.{name}" for name in ("hub", "config", "root", "path", "columns", "label")))


def begin(target: str, options: Options, *, resume: bool, last: str) -> tuple[Run, Context]:
    """A new run of a recipe; with `resume`, the newest unfinished one of the same resolved recipe, or the run named.

    `last` is the stage that the command ends with.
    """
    path = Path(target)
    if is_run(path):
        if not resume:
            raise UserError(f"{path} is a run; add --resume to go on with it, or name a recipe to start a new one")
        return _open(_here(path, options), options)
    recipe = options.read(find_recipe(target))
    if not resume:
        return _launch(recipe, None, options)
    if (found := to_resume(listing.same_runs(options.runs, recipe), last)) is not None:
        return _launch(recipe, found.run, options, found.remark)
    raise UserError(
        f"nothing to resume: {options.runs / recipe.name} holds no run of exactly this recipe; leave out --resume to "
        "start one, or name the run's directory"
    )


def existing(
    target: str | None, options: Options, *, begun: str | None = None, anew: bool = False
) -> tuple[Run, Context]:
    """The run named, or the newest run (of the recipe named).

    `begun`: rather the newest (of exactly the recipe named) that has begun this stage and not ended it, if one has.
    `anew`: whether it is trained anew.
    """
    if target is not None and is_run(Path(target)):
        return _open(_here(Path(target), options), options, anew=anew)
    recipe = None if target is None else options.read(find_recipe(target))
    if begun is not None:
        at_it = listing.at_stage(options.runs, begun) if recipe is None else listing.same_runs(options.runs, recipe)
        found = to_resume([run for run in at_it if has_begun(run, begun)], begun)
        if found is not None and not found.finished:
            return _open(found.run.path, options, found.remark, recipe)
    run, remark = newest(options.runs, None if recipe is None else recipe.name, target)
    remark = "; ".join(filter(None, [remark, _another(run, recipe, str(target))]))
    return _open(run.path, options, remark, recipe, anew=anew)


def named(target: str | None, folder: Path) -> Run:
    """The run named, or the newest run below a folder (of the recipe named); whatever the recipe's files are now."""
    if target is not None and (is_run(Path(target)) or (Path(target).is_dir() and target not in shipped())):
        return Run.open(Path(target))
    recipe = None if target is None else read_recipe(find_recipe(target))
    run, remark = newest(folder, None if recipe is None else recipe.name, target)
    # where the data lay may have been an option
    remark = "; ".join(filter(None, [remark, _another(run, recipe, str(target), but="data.root")]))
    line(screen(stderr=True), f"run {run.path}{remark and f', {remark}'}")
    return run


def newest(folder: Path, recipe_name: str | None, target: str | None) -> tuple[Run, str]:
    """The newest run below a folder, and of how many it is that, where there are more.

    Raises:
        UserError: There is none.
    """
    found, what = listing.newest(folder, recipe_name), "run" if recipe_name is None else f"run of {recipe_name}"
    if found is None:
        raise UserError(f"there is no {what} below {folder}; run: autolora search {target or 'RECIPE'}")
    run, number = found
    return run, f"the newest of {number} runs below {folder}" if number > 1 else ""


def _here(path: Path, options: Options) -> Path:
    """The folder of the run that is named, which nothing else is written to."""
    if options.output is not None and not path.resolve().is_relative_to(options.output.resolve()):
        raise UserError(
            f"--output: says where new runs are, and {path} is one already, in which everything would be written; "
            "leave it out"
        )
    return path


def _another(run: Run, named: Recipe | None, target: str, but: str = "") -> str:
    """What to say where a run is of another recipe that has the name of the one that is meant; "" where it is not."""
    if named is None:
        return ""
    for field in ABOUT:
        own, other = (attrgetter(field)(recipe) for recipe in (run.recipe, named))
        if own != other and field != but:
            return f"it was made of another recipe of this name: its {field} is {own!r}, and {target} has {other!r}"
    return ""


def _open(
    path: Path, options: Options, remark: str = "", own: Recipe | None = None, *, anew: bool = False
) -> tuple[Run, Context]:
    """An existing run, with the options applied. What its search and its training depended on must stay as it was.

    `own`: the recipe that the user has named, where that is how the run was found. `anew`: it is trained anew.
    """
    run = Run.open(path)
    check_reach(run, options.read_unchecked(path / "recipe.yaml"), options.said, own)
    recipe = options.read(path / "recipe.yaml")
    check_unchanged(run, recipe, anew=anew)
    run.recipe = recipe
    return _launch(recipe, run, options, remark)


def _launch(recipe: Recipe, before: Run | None, options: Options, remark: str = "") -> tuple[Run, Context]:
    """The heavy imports, the device, and the run directory: made by the main process, told to the others.

    A new one is made when the data is read and encoded, so that faulty data leaves none behind.
    """
    hush()
    from autolora.context.base import Context
    from autolora.experiment.prepare import prepare

    context = Context(recipe, trust_remote_code=options.trust)
    path = ""
    if before is None:
        prepare(context)
    if context.main:
        if before is not None:
            with before.hold():  # said before anything is loaded; the stages hold it themselves
                pass
        path = str((before or Run.create(options.runs, recipe)).path)
    path = context.compute.from_main(path)
    run = Run(Path(path), recipe, main=context.main)
    if context.main:
        said = screen(stderr=True)
        line(said, f"run {run.path}")
        if remark:
            line(said, remark)
    return run, context
