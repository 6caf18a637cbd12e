"""What ``autolora compress`` does with data: `with_data`, and the options that only this has.

asked = Asked(budget="0.25", recipe="glue-mini/stsb")
if asked.wants_data:
    with_data(Path("my-adapter"), asked, Path("smaller"), Options())
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autolora.cli.options import Options
from autolora.console import hush, line, screen
from autolora.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from autolora.experiment.compressed import Compressed
    from autolora.recipe.schema import Recipe
    from autolora.tables import Row

FromRecipeOption = Annotated[
    str | None,
    typer.Option("--recipe", metavar="RECIPE", help="Value components on this recipe's data; a run needs none."),
]
DataOption = Annotated[
    Path | None, typer.Option("--data", metavar="FILE", help="Value components on this file, without a recipe.")
]
EvalDataOption = Annotated[
    Path | None,
    typer.Option("--eval-data", metavar="FILE", help="With --data: score this file; default: a fifth of the rows."),
]
ColumnsOption = Annotated[
    str | None, typer.Option("--columns", metavar="NAME[,NAME]", help="With --data: the columns of the input.")
]
LabelOption = Annotated[str | None, typer.Option("--label", metavar="NAME", help="With --data: the label's column.")]
TaskOption = Annotated[
    str | None, typer.Option("--task", metavar="NAME", help="With --data: the task, where the adapter does not say it.")
]
ScoreOption = Annotated[
    str | None,
    typer.Option("--score", metavar="NAME", help="fisher (default with data) or spectrum.", show_default=False),
]
ToleranceOption = Annotated[
    float | None,
    typer.Option("--tolerance", metavar="SHARE", help="Instead of --budget: how much of the gain may be lost."),
]
HealOption = Annotated[
    int, typer.Option("--heal", metavar="STEPS", help="Train on what is kept, for so many steps.", show_default="0")
]
NoMeasureOption = Annotated[bool, typer.Option("--no-measure", help="Leave out the scores on the evaluation splits.")]


@dataclass(frozen=True)
class Asked:
    """What the command line says of a compression with data; None where it says nothing.

    Args:
        budget: As it is written after ``--budget``.
        tolerance: Instead of it.
        recipe: Of a recipe's data.
        data: Of a file's, and so are the next four.
        evaluation: See `DataOption`.
        columns: See `DataOption`.
        label: See `DataOption`.
        task: See `DataOption`.
        score: Which components are kept.
        heal: Steps of further training.
        measure: Whether the evaluation splits are scored.
    """

    budget: str | None = None
    tolerance: float | None = None
    recipe: str | None = None
    data: Path | None = None
    evaluation: Path | None = None
    columns: str | None = None
    label: str | None = None
    task: str | None = None
    score: str | None = None
    heal: int = 0
    measure: bool = True

    @property
    def wants_data(self) -> bool:
        """Whether something is asked for that cannot be done without data."""
        given = (self.recipe, self.data, self.evaluation, self.tolerance)
        measured = self.score not in (None, "spectrum") or (self.budget or "").startswith("tolerance=")
        return any(each is not None for each in given) or self.heal != 0 or measured

    def check_none(self, options: Options) -> None:
        """Make sure that nothing is said about data where there are to be none.

        Args:
            options: What the command line says of a recipe.

        Raises:
            UserError: Something is.
        """
        said = {
            "--columns": self.columns,
            "--label": self.label,
            "--task": self.task,
            "--no-measure": not self.measure or None,
            "--set": options.overrides or None,
            "--data-root": options.data_root,
            "--model": options.model,
            "--seed": options.seed,
            "--trust-remote-code": options.trust or None,
        }
        if given := [name for name, value in said.items() if value is not None]:
            raise UserError(
                f"{given[0]} is about data, of which nothing else is said: add --recipe RECIPE, --data FILE or, of a "
                "run, --score fisher; or leave it out"
            )


def with_data(adapter: Path, asked: Asked, output: Path, options: Options) -> None:
    """Compress an adapter with data, and show what came of it.

    Args:
        adapter: The adapter's folder, or a run's.
        asked: What the command line says.
        output: The folder of the smaller adapter.
        options: What it says about the recipe.

    Raises:
        UserError: Something that is asked for cannot be done.
    """
    budget = _budget(asked)
    _check_alone(asked)
    hush()
    recipe = _recipe(adapter, asked, options)
    from autolora.experiment.compress import compress_with_data

    found = compress_with_data(
        adapter,
        recipe,
        budget,
        output,
        score=asked.score or "fisher",
        heal=asked.heal,
        measure=asked.measure,
        elsewhere=options.model is not None,
        show=True,
        trust_remote_code=options.trust,
    )
    _show(screen(), found)
    line(screen(stderr=True), f"wrote {found.output}")


def _budget(asked: Asked) -> dict[str, float]:
    from autolora.recipe.method import budget_words

    if asked.tolerance is not None and asked.budget is not None:
        raise UserError("--budget and --tolerance exclude each other: a tolerance finds the size itself")
    if asked.tolerance is not None:
        return {"tolerance": asked.tolerance}
    if asked.budget is None:
        raise UserError("how large may it be? give --budget 0.25 (or rank=1, parameters=N), or --tolerance 0.1")
    if asked.budget.startswith("keep="):
        raise UserError(
            f"--budget {asked.budget} is a share of the energy, which says nothing of data: give --budget 0.25 (or "
            "rank=1, parameters=N), or --tolerance 0.1"
        )
    return budget_words(asked.budget)


def _check_alone(asked: Asked) -> None:
    if asked.recipe is not None and asked.data is not None:
        raise UserError("--recipe and --data exclude each other: a recipe says which data it is about")
    of_data = {
        "--eval-data": asked.evaluation,
        "--columns": asked.columns,
        "--label": asked.label,
        "--task": asked.task,
    }
    if asked.data is None and (given := [name for name, value in of_data.items() if value is not None]):
        raise UserError(f"{given[0]} is about the file of --data; leave it out, or change the recipe with --set")


def _recipe(adapter: Path, asked: Asked, options: Options) -> Recipe:
    """The one that is named, one for the file, or the run's own."""
    if asked.recipe is not None:
        from autolora.recipe.shipped import find_recipe

        return options.read(find_recipe(asked.recipe))
    if asked.data is not None:
        return _of_file(adapter, asked, asked.data, options)
    from autolora.runs.folders import run_of, runs_inside

    run = run_of(adapter)
    if run is None:
        raise UserError(
            f"{adapter} is no run, whose recipe would say which data it is about; name some with --recipe RECIPE or "
            f"--data FILE{runs_inside(adapter)}"
        )
    from autolora.runs.reach import check_reach
    from autolora.runs.store import Run

    check_reach(Run.open(run), options.read_unchecked(run / "recipe.yaml"), options.said)
    return options.read(run / "recipe.yaml")


def _of_file(adapter: Path, asked: Asked, data: Path, options: Options) -> Recipe:
    if options.data_root is not None:
        raise UserError("--data-root is for a recipe's data; --data names the file itself")
    from autolora.experiment.data_recipe import data_recipe
    from autolora.experiment.stored_adapter import read_stored
    from autolora.runs.folders import run_of

    run = run_of(adapter)
    return data_recipe(
        read_stored(adapter if run is None else run / "adapter"),
        data,
        evaluation=asked.evaluation,
        columns=[name.strip() for name in asked.columns.split(",")] if asked.columns else (),
        label=asked.label,
        task=asked.task,
        model=options.model,
        seed=options.seed,
        overrides=options.overrides,
    )


def _show(console: Console, found: Compressed) -> None:
    from autolora import tables
    from autolora.plots import rank_map

    console.print(rank_map.render(found.ranks, found.ranks.initial_rank))
    title = f"components by {found.ranks.rule['score']} on {found.examples} training rows of {found.recipe}"
    console.print(tables.render(list(_rows(found)), title, console.width))
    line(console, f"predicted rise of the loss, before any healing: {found.predicted_rise:.3g}")
    if found.measured_rise is not None:
        line(console, f"measured there: {found.measured_rise:.3g}")


def _rows(found: Compressed) -> Iterator[Row]:
    before, after = found.parameters
    stages = (("as it was", before, found.before), ("compressed", after, found.squeezed))
    healed = ((f"healed, {found.heal} steps", after, found.healed),) if found.heal else ()
    for name, parameters, scores in (*stages, *healed):
        yield {
            "adapter": name,
            "LoRA parameters": parameters,
            "share": parameters / before,
            **{score.name: score.value for score in scores},
        }
