"""The arguments and options that commands share, and how a recipe is read with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autolora.cli import completion

if TYPE_CHECKING:
    from autolora.recipe.schema import Recipe

RUNS = Path("runs")  # where runs are, unless it is said

RecipeArgument = Annotated[
    str,
    typer.Argument(
        help="A recipe file, a shipped recipe's name, or a run directory.", autocompletion=completion.targets
    ),
]
TargetArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN|RECIPE]",
        help="A run directory or a recipe; the newest run if left out.",
        autocompletion=completion.targets,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a field of the recipe.", autocompletion=completion.fields
    ),
]
DataRootOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Read the recipe's data from local files below DIR.")
]
ModelOption = Annotated[
    str | None, typer.Option(metavar="NAME_OR_PATH", help="Use this model instead of the recipe's.")
]
SeedOption = Annotated[int | None, typer.Option(help="The seed that governs everything.")]
OutputOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where runs are written: DIR/<recipe>/<time>-<seed>/.", show_default="runs"),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the newest unfinished run of this recipe.")]
TrustOption = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Let code run that comes with the model, if the recipe wants it, too."),
]
TrackOption = Annotated[
    list[str] | None,
    typer.Option("--track", metavar="NAME,...", help="Track it, too: tensorboard, mlflow, trackio, wandb."),
]
BaselineOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="What the others are compared with; default: the first lora-matched, or LoRA."),
]
IntervalOption = Annotated[str, typer.Option(metavar="t|bootstrap", help="Interval and test of the differences.")]
PublishedOption = Annotated[bool, typer.Option("--published", help="Show published figures, too, marked so.")]


@dataclass(frozen=True)
class Options:
    """What the command line says about a recipe, and where runs are. output: None where it was not given.

    trust: Whether code that comes with a model may run.
    """

    overrides: tuple[str, ...] = ()
    data_root: Path | None = None
    model: str | None = None
    seed: int | None = None
    output: Path | None = None
    trust: bool = False

    @classmethod
    def given(
        cls,
        overrides: list[str] | None,
        data_root: Path | None,
        model: str | None,
        seed: int | None,
        output: Path | None,
        trust: bool = False,
    ) -> Options:
        """From the options as typer gives them."""
        return cls(tuple(overrides or ()), data_root, model, seed, output, trust)

    @property
    def runs(self) -> Path:
        """Where runs are."""
        return RUNS if self.output is None else self.output

    @property
    def said(self) -> frozenset[str]:
        """The fields and sections that are given here, dotted."""
        own = {"data.root": self.data_root, "model.name": self.model}
        given = {field for field, value in own.items() if value is not None}
        return frozenset({*given, *(text.partition("=")[0].strip() for text in self.overrides)})

    def read_unchecked(self, path: Path) -> Recipe:
        """The recipe in a file, with these options applied, and none of the files that it names looked at."""
        from autolora.recipe.load import read_recipe

        return read_recipe(path, self.overrides, data_root=self.data_root, model=self.model, seed=self.seed)

    def read(self, path: Path) -> Recipe:
        """The recipe in a file, with these options applied and everything checked."""
        from autolora.experiment.preflight import load_recipe

        return load_recipe(path, self.overrides, data_root=self.data_root, model=self.model, seed=self.seed)
