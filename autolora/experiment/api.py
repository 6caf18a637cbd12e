"""A recipe run from Python: ``run("quickstart", search__steps=20)`` gives a `Result`, ``search(…)`` a `Ranks`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autolora.causes import plainly
from autolora.console import warn
from autolora.context.base import Context
from autolora.experiment.line import run_stages
from autolora.experiment.preflight import check_recipe, load_recipe
from autolora.experiment.prepare import prepare
from autolora.experiment.search import search as search_stage
from autolora.lora.ranks import Ranks
from autolora.recipe.load import override_recipe
from autolora.recipe.schema import Recipe
from autolora.recipe.shipped import find_recipe
from autolora.runs.listing import same_runs
from autolora.runs.results import Result, read_result
from autolora.runs.resume import to_resume
from autolora.runs.store import Run
from autolora.trackers.follow import following
from autolora.trackers.names import parse_trackers


@plainly()
def run(
    recipe: Recipe | str | Path,
    *,
    output: str | Path = "runs",
    data_root: str | Path | None = None,
    model: str | None = None,
    seed: int | None = None,
    resume: bool = False,
    show: bool = False,
    trust_remote_code: bool = False,
    track: str | Sequence[str] = (),
    **overrides: object,
) -> Result:
    """Search, retrain and evaluate, as ``autolora run`` does.

    Args:
        recipe: A recipe, its file, or a shipped recipe's name.
        output: Where runs are written.
        data_root: Read the recipe's data from local files below this folder.
        model: Instead of the recipe's.
        seed: Instead of the recipe's.
        resume: Go on with the newest run of exactly this recipe, where there is one.
        show: Show the progress, on standard error.
        trust_remote_code: Let code run that comes with the model, where the recipe wants it.
        track: Trackers that follow the run, ``"tensorboard,mlflow"`` or a list of names; see docs/trackers.md.
        overrides: Fields of the recipe by dotted name, with ``__`` for the dot: ``search__steps=20``.

    Raises:
        UserError: The recipe is faulty (a RecipeError), or something that it needs is not there.
    """
    trackers = parse_trackers(track)
    resolved = resolve(recipe, data_root, model, seed, overrides)
    context = Context(resolved, show=show, trust_remote_code=trust_remote_code)
    made = _begin(context, Path(output), resume=resume)
    with following(made, trackers, say=warn):
        run_stages(made, context)
    return read_result(made)


@plainly()
def search(
    recipe: Recipe | str | Path,
    *,
    output: str | Path = "runs",
    data_root: str | Path | None = None,
    model: str | None = None,
    seed: int | None = None,
    resume: bool = False,
    show: bool = False,
    trust_remote_code: bool = False,
    track: str | Sequence[str] = (),
    **overrides: object,
) -> Ranks:
    """Find the ranks only, as ``autolora search`` does; `run` with `resume` goes on from there.

    Args:
        recipe: As in `run`, and so is everything else.
        output: See `run`.
        data_root: See `run`.
        model: See `run`.
        seed: See `run`.
        resume: See `run`.
        show: See `run`.
        trust_remote_code: See `run`.
        track: See `run`.
        overrides: See `run`.

    Raises:
        UserError: As `run`; or the recipe's method searches for nothing.
    """
    trackers = parse_trackers(track)
    resolved = resolve(recipe, data_root, model, seed, overrides)
    context = Context(resolved, show=show, trust_remote_code=trust_remote_code)
    made = _begin(context, Path(output), resume=resume)
    with following(made, trackers, say=warn):
        return search_stage(made, context)


def resolve(
    recipe: Recipe | str | Path,
    data_root: str | Path | None,
    model: str | None,
    seed: int | None,
    overrides: dict[str, object],
) -> Recipe:
    """The recipe that is meant, checked against its files.

    Args:
        recipe: A recipe, its file, or a shipped recipe's name.
        data_root: Instead of the recipe's; None: the recipe's.
        model: Likewise.
        seed: Likewise.
        overrides: Values by dotted name, with ``__`` for the dot.

    Raises:
        UserError: There is none, or it is faulty (a RecipeError).
    """
    dotted = {name.replace("__", "."): value for name, value in overrides.items()}
    root = None if data_root is None else Path(data_root)
    if isinstance(recipe, Recipe):
        changed = override_recipe(recipe, dotted, data_root=root, model=model, seed=seed)
        check_recipe(changed)
        return changed
    return load_recipe(find_recipe(str(recipe)), dotted, data_root=root, model=model, seed=seed)


def _begin(context: Context, output: Path, *, resume: bool) -> Run:
    recipe = context.recipe
    found = to_resume(same_runs(output, recipe), "eval") if resume else None
    if found is None:
        prepare(context)
    path = ""
    if context.main:
        path = str(Run.create(output, recipe).path if found is None else found.run.path)
    return Run(Path(context.compute.from_main(path)), recipe, main=context.main)
