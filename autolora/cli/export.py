"""``autolora export``: the ranks of a run as another tool's configuration, on standard output.

Standard output holds the configuration and nothing else; what there is to say about it goes to standard error.
"""

from __future__ import annotations

from pathlib import Path

import typer

from autolora import registry
from autolora.errors import UserError
from autolora.export import FORMATS
from autolora.export.base import Exported
from autolora.export.read import read_allocation
from autolora.files import write_atomic
from autolora.recipe.load import load_recipe
from autolora.recipe.messages import did_you_mean
from autolora.recipe.shipped import find_recipe
from autolora.runs.store import Run, runs


def export(run: str | None, format: str, output: Path | None, runs_folder: Path) -> None:
    """Print the configuration, or write it to `output`. run: a run directory or a recipe; None: the newest run."""
    if format not in FORMATS:
        near = did_you_mean(format, FORMATS)
        raise UserError(f"--format: {format!r} is not one of: {', '.join(FORMATS)}{f'; {near}' if near else ''}")
    if output is not None and output.is_dir():
        raise UserError(f"--output: {output} is a folder; name a file in it, such as {output / _file_name(format)}")
    exported: Exported = registry.load(FORMATS, format)(read_allocation(_find(run, runs_folder)))
    for note in exported.notes:
        typer.echo(f"note: {note}", err=True)
    if output is None:
        typer.echo(exported.text, nl=False)
        return
    try:
        write_atomic(output, exported.text)
    except OSError as error:
        raise UserError(f"--output: {output} cannot be written: {error}") from error
    typer.echo(f"wrote {output}", err=True)


def _find(run: str | None, runs_folder: Path) -> Run:
    """The run named, or the newest run (of the recipe named)."""
    if run is not None and Path(run).is_dir():
        return Run.open(Path(run))
    name = None if run is None else load_recipe(find_recipe(run), check=False).name
    found = runs(runs_folder, name)
    if not found:
        what = "run" if name is None else f"run of {name}"
        raise UserError(f"there is no {what} below {runs_folder}; run: autolora search {run or 'RECIPE'}")
    return found[-1]


def _file_name(format: str) -> str:
    return "adapter_config.json" if format == "peft" else f"{format}.yaml"
