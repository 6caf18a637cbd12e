"""``autolora merge``: the model of a run, or of anybody's adapter, for transformers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autolora.cli.options import RUNS
from autolora.console import hush, line, screen, warn

TargetArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN|ADAPTER|RECIPE]",
        help="A run directory, an adapter's folder (PEFT's format), or a recipe; the newest run if left out.",
    ),
]
FolderOption = Annotated[Path, typer.Option("--output", metavar="DIR", help="The folder for the merged model.")]
BaseOption = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="NAME_OR_PATH", help="The base model, instead of the one that run or adapter names."
    ),
]
DtypeOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="float32, bfloat16 or float16; default: the base model's.")
]
ShardOption = Annotated[str, typer.Option(metavar="SIZE", help="How large one weight file may be.")]
RunsOption = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Where runs are.")]


def merge(
    output: FolderOption,
    target: TargetArgument = None,
    model: BaseOption = None,
    dtype: DtypeOption = None,
    shard_size: ShardOption = "5GB",
    runs: RunsOption = RUNS,
) -> None:
    """Put an adapter into the weights of its model, and write that model with its tokenizer."""
    path = _path(target, runs)
    hush()
    from autolora.experiment.merge import merge as merged_model

    found = merged_model(path, output, model=model, dtype=dtype, shard_size=shard_size)
    for note in found.notes:
        warn(f"note: {note}")
    said = screen()
    line(said, f"{path} is in {found.layers} modules of the {found.model_class}")
    line(said, f"wrote {found.path}: {found.parameters:,} parameters in {found.dtype}, {found.size / 1e6:,.1f} MB")
    line(said, f'load it with transformers.{found.model_class}.from_pretrained("{found.path}")')


def _path(target: str | None, runs: Path) -> Path:
    """The run or adapter that is meant."""
    if target is not None and Path(target).is_dir():
        return Path(target)
    from autolora.cli.target import named

    return named(target, runs).path
