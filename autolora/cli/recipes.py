"""``autolora recipes``: list, show, copy and validate recipes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from autolora.console import document, say, screen, warn
from autolora.errors import RecipeError, UserError

app = typer.Typer(no_args_is_help=True, help="List, show, copy and check recipes.")

Name = Annotated[str, typer.Argument(help="A shipped recipe's name (glue-mini/cola) or a recipe file.")]


@app.command("list")
def list_recipes() -> None:
    """List the shipped recipes."""
    from rich.table import Table
    from rich.text import Text

    from autolora.recipe.plain_yaml import values
    from autolora.recipe.shipped import shipped

    table = Table("name", "task", "model", "description", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for name, path in shipped().items():
        found = values(path.read_text(encoding="utf-8"))
        table.add_row(*map(Text, (name, found["task"], found["model"]["name"], found.get("description", ""))))
    screen().print(table)


@app.command()
def show(name: Name) -> None:
    """Print a recipe."""
    from autolora.recipe.shipped import find_recipe

    document(find_recipe(name).read_text(encoding="utf-8"))


@app.command()
def copy(
    name: Name,
    dest: Annotated[
        Path | None, typer.Argument(help="File or folder to write to; default: the working directory.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Copy a recipe, to change it."""
    from autolora.recipe.shipped import find_recipe

    source = find_recipe(name)
    target = Path(source.name) if dest is None else dest / source.name if dest.is_dir() else dest
    if target.exists() and target.samefile(source):
        raise UserError(f"{target} is the recipe itself; name another place")
    if target.exists() and not force:
        raise UserError(f"{target} exists already; pass --force to overwrite it, or name another file")
    if not target.parent.is_dir():
        raise UserError(f"there is no folder {target.parent} to copy to; make it first")
    shutil.copyfile(source, target)
    say(f"wrote {target}; run it with: autolora run {target}")


@app.command()
def validate(
    paths: Annotated[list[str] | None, typer.Argument(help="Recipes or folders; default: all shipped ones.")] = None,
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
