"""``autolora recipes``: list, show, copy, write and validate recipes, and their schema."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from autolora import safe
from autolora.cli import completion
from autolora.cli.recipes_new import new
from autolora.console import document, json_document, line, say, screen, warn
from autolora.errors import RecipeError, UserError
from autolora.files import write_atomic

SCHEMA = "recipe.schema.json"  # beside recipes, which name it in their first lines

app = typer.Typer(no_args_is_help=True, help="List, show, copy, write and check recipes.")

Name = Annotated[
    str,
    typer.Argument(
        help="A shipped recipe's name (glue-mini/cola) or a recipe file.", autocompletion=completion.recipes
    ),
]


app.command("new")(new)


@app.command("list")
def list_recipes(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, with the descriptions.")] = False,
) -> None:
    """List the shipped recipes: what each is for, its model, and what it needs."""
    from autolora.recipe.listing import groups, listed

    found = listed()
    if as_json:
        json_document([asdict(each) for each in found])
        return
    console = screen()
    widths = [max(len(getattr(each, name)) for each in found) for name in ("name", "task", "model")]
    for group, recipes in groups(found).items():
        line(console, f"{group}")
        for each in recipes:
            cells = (each.name, each.task, each.model)
            row = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            line(console, f"  {row}  {each.needs}")
    line(console, "hub: fetches its data from the Hugging Face hub; local: needs --data-root DIR")


@app.command()
def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print all fields as a page instead.")] = False,
) -> None:
    """Print the JSON schema of recipes, that editors complete and check them by."""
    from autolora.recipe.json_schema import reference, schema_text

    document(reference() if markdown else safe.json_text(schema_text(), sys.stdout.encoding or "utf-8"))


@app.command()
def show(name: Name) -> None:
    """Print a recipe."""
    from autolora.recipe.document import file_text
    from autolora.recipe.shipped import find_recipe

    document(file_text(find_recipe(name)))


@app.command()
def copy(
    name: Name,
    dest: Annotated[
        Path | None, typer.Argument(help="File or folder to write to; default: the working directory.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Copy a recipe, to change it."""
    from autolora.recipe.document import file_text
    from autolora.recipe.shipped import find_recipe

    source = find_recipe(name)
    target = Path(source.name) if dest is None else dest / source.name if dest.is_dir() else dest
    if target.exists() and target.samefile(source):
        raise UserError(f"{target} is the recipe itself; name another place")
    if target.exists() and not force:
        raise UserError(f"{target} exists already; pass --force to overwrite it, or name another file")
    if not target.parent.is_dir():
        raise UserError(f"there is no folder {target.parent} to copy to; make it first")
    write_atomic(target, _beside_its_schema(file_text(source)))
    say(f"wrote {target}; run it with: autolora run {target}")
    if not (target.parent / SCHEMA).exists():
        say(f"for completion in an editor: autolora recipes schema > {target.parent / SCHEMA}")


def _beside_its_schema(text: str) -> str:
    """A recipe's text whose first line looks for the schema in the recipe's own folder."""
    return re.sub(rf"\A(# yaml-language-server: \$schema=)\S*{re.escape(SCHEMA)}", rf"\g<1>{SCHEMA}", text)


@app.command()
def validate(
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Recipes or folders; default: all shipped ones.", autocompletion=completion.recipes),
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder that the recipes' data.path is relative to.")] = None,
) -> None:
    """Check recipes without running them: keys, values, data files, module names."""
    from autolora.experiment.preflight import lacks_only_data, load_recipe
    from autolora.recipe.document import file_label
    from autolora.recipe.shipped import shipped

    faulty, ours = 0, set(shipped().values())
    for path in _files(paths):
        try:
            load_recipe(path, data_root=data_root)
        except RecipeError as error:
            if path in ours and lacks_only_data(error):
                say(f"{file_label(path)}: ok, but it needs local data: --data-root DIR")
                continue
            faulty += 1
            warn(str(error))
        else:
            say(f"{file_label(path)}: ok")
    if faulty:
        warn(f"{faulty} faulty recipe{'s' if faulty > 1 else ''}")
        raise typer.Exit(2)


def _files(paths: list[str] | None) -> list[Path]:
    """The recipes that the arguments mean; a folder means all below it."""
    from autolora.recipe.shipped import find_recipe, recipe_files, shipped

    if not paths:
        return list(shipped().values())
    files: list[Path] = []
    for text in paths:
        inside = recipe_files(Path(text)) if Path(text).is_dir() else [find_recipe(text)]
        if not inside:
            raise UserError(f"the folder {text} has no recipe (*.yaml) in it")
        files += inside
    return files
