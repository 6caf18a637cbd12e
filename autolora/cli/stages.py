"""What the stage commands do: find or make the run, call the pipeline, show the results.

The recipe is read and checked first: torch and transformers are imported only after that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from autolora.console import hush
from autolora.errors import UserError
from autolora.recipe.load import load_recipe
from autolora.recipe.schema import Recipe
from autolora.recipe.shipped import find_recipe
from autolora.runs.store import Run, is_run, runs

if TYPE_CHECKING:
    from autolora.pipeline import Lab


@dataclass(frozen=True)
class Options:
    """The options that all stage commands have."""

    overrides: tuple[str, ...]
    data_root: Path | None
    model: str | None
    seed: int | None
    output: Path

    def read(self, path: Path) -> Recipe:
        """The recipe in a file, with these options applied and everything checked."""
        return load_recipe(path, self.overrides, data_root=self.data_root, model=self.model, seed=self.seed)


def search(target: str, options: Options, *, resume: bool) -> None:
    run, lab = _begin(target, options, resume=resume)
    _search(run, lab)


def retrain(target: str | None, options: Options, *, resume: bool) -> None:
    run, lab = _existing(target, options)
    _retrain(run, lab, resume=resume)


def evaluate(target: str | None, options: Options) -> None:
    run, lab = _existing(target, options)
    _evaluate(run, lab)


def submit(target: str | None, options: Options) -> None:
    from autolora import pipeline

    run, lab = _existing(target, options)
    written = pipeline.submit(run, lab)
    if lab.main:
        _written(Console(), run, *(str(path.relative_to(run.path)) for path in written))


def run(target: str, options: Options, *, resume: bool) -> None:
    run, lab = _begin(target, options, resume=resume)
    from autolora.methods.base import method_class

    searches = method_class(run.recipe.method.name).searches
    for name, stage in (
        *([("search", _search)] if searches else []),
        ("retrain", lambda r, lab: _retrain(r, lab, resume=True)),
        ("eval", _evaluate),
    ):
        if run.stage_state(name) != "success":
            stage(run, lab)


def _search(run: Run, lab: Lab) -> None:
    from autolora import pipeline
    from autolora.report import rank_map

    found = pipeline.search(run, lab)
    if lab.main:
        console = Console()
        console.print(rank_map.render(found["ranks"], found["initial_rank"]))
        _written(console, run, "search/ranks.json", "search/ranks.png", "search/selection.png", "search/log.jsonl")


def _retrain(run: Run, lab: Lab, *, resume: bool) -> None:
    from autolora import pipeline

    if not resume and lab.main:
        (run.path / "retrain" / "checkpoint.safetensors").unlink(missing_ok=True)
    lab.accelerator.wait_for_everyone()
    pipeline.retrain(run, lab)
    if lab.main:
        _written(Console(), run, "adapter", "retrain/log.jsonl")


def _evaluate(run: Run, lab: Lab) -> None:
    from autolora import pipeline
    from autolora.report import tables

    rows = pipeline.evaluate(run, lab)
    if lab.main:
        console = Console()
        console.print(tables.render(rows, f"{run.recipe.name}, seed {run.recipe.seed}", console.width))
        _written(console, run, "metrics.md", "metrics.csv", "metrics.json", "predictions")


def _written(console: Console, run: Run, *names: str) -> None:
    for name in names:
        if (run.path / name).exists():
            console.print(f"wrote {run.path / name}", markup=False, highlight=False, soft_wrap=True)


def _begin(target: str, options: Options, *, resume: bool) -> tuple[Run, Lab]:
    """A new run of a recipe; with `resume`, the newest run that has the same resolved recipe, or the run named."""
    path = Path(target)
    if is_run(path):
        if not resume:
            raise UserError(f"{path} is a run; add --resume to go on with it, or name a recipe to start a new one")
        return _open(path, options)
    recipe = options.read(find_recipe(target))
    if not resume:
        return _launch(recipe, lambda: Run.create(options.output, recipe))
    same = [run for run in runs(options.output, recipe.name) if run.recipe == recipe]
    if same:
        return _launch(recipe, lambda: same[-1])
    raise UserError(
        f"nothing to resume: {options.output / recipe.name} holds no run of exactly this recipe; leave out --resume to "
        "start one, or name the run's directory"
    )


def _existing(target: str | None, options: Options) -> tuple[Run, Lab]:
    """The run named, or the newest run (of the recipe named)."""
    if target is not None and is_run(Path(target)):
        return _open(Path(target), options)
    name = None if target is None else options.read(find_recipe(target)).name
    found = runs(options.output, name)
    if not found:
        what = "run" if name is None else f"run of {name}"
        raise UserError(f"there is no {what} below {options.output}; run: autolora search {target or 'RECIPE'}")
    return _open(found[-1].path, options)


def _open(path: Path, options: Options) -> tuple[Run, Lab]:
    """An existing run, with the options applied. What its search depended on must stay as it was."""
    run = Run.open(path)
    recipe = options.read(path / "recipe.yaml")
    if run.stage_state("search") == "success":
        before, after = _searched_with(run.recipe), _searched_with(recipe)
        for field, value in before.items():
            if after[field] != value:
                raise UserError(
                    f"{path} was searched with {field} {value}, not {after[field]}; "
                    "start a new run with: autolora search"
                )
    run.recipe = recipe
    return _launch(recipe, lambda: run)


def _searched_with(recipe: Recipe) -> dict[str, Any]:
    """What may not change after the search, by dotted field; where the data and the model lie may."""
    data = recipe.data.model_dump(exclude={"root": True, "splits": {"eval"}, "limits": {"eval"}})
    search = recipe.search.model_dump(exclude={"checkpoint_every", "log_every"})
    return dict(
        _flat(
            {
                "task": recipe.task,
                "seed": recipe.seed,
                "method": recipe.method.model_dump(),
                "search": search,
                "data": data,
                "loss": recipe.loss.model_dump(),
            }
        )
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _launch(recipe: Recipe, make: Callable[[], Run]) -> tuple[Run, Lab]:
    """The heavy imports, the device, and the run directory: made by the main process, told to the others."""
    from accelerate.utils import broadcast_object_list

    hush()
    from autolora.pipeline import Lab

    lab = Lab(recipe)
    path = [str(make().path)] if lab.main else [""]
    if lab.accelerator.num_processes > 1:
        broadcast_object_list(path)
    run = Run(Path(path[0]), recipe, main=lab.main)
    if lab.main:
        Console(stderr=True).print(f"run {run.path}", markup=False, highlight=False, soft_wrap=True)
    return run, lab
