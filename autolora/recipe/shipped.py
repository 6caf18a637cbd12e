"""The recipes that come with the package: ``shipped()`` by name, and ``find_recipe("glue-mini/cola")``.

They lie in ``recipes/`` at the root of a source checkout, and in ``autolora/_recipes`` in an installed wheel.
"""

from __future__ import annotations

from pathlib import Path

from autolora.errors import UserError
from autolora.recipe.document import SUFFIXES, file_label
from autolora.words import did_you_mean

PACKAGE = Path(__file__).resolve().parents[1]


def recipes_folder() -> Path:
    """The folder of the shipped recipes."""
    for folder in (PACKAGE / "_recipes", PACKAGE.parent / "recipes"):
        if folder.is_dir():
            return folder
    raise UserError(f"the shipped recipes are missing: neither {PACKAGE / '_recipes'} nor {PACKAGE.parent / 'recipes'}")


def recipe_files(folder: Path) -> list[Path]:
    """Every recipe in a folder and the folders below it."""
    return sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())


def shipped() -> dict[str, Path]:
    """The shipped recipes: name (``glue-mini/cola``) to file."""
    folder = recipes_folder()
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in recipe_files(folder)}


def find_recipe(text: str) -> Path:
    """The recipe that a command-line argument means: a file, or a shipped recipe's name.

    Args:
        text: The argument. The name may be written with ``recipes/`` in front and ``.yaml`` behind.

    Raises:
        UserError: There is none; the message has the nearest names.
    """
    path, recipes = Path(text), shipped()
    name = text.removeprefix("recipes/").removesuffix(".yaml").removesuffix(".yml")
    if path.is_file():
        return path
    if name in recipes:
        return recipes[name]
    if path.exists():
        raise UserError(f"{file_label(path)} is a folder, not a recipe{_inside(path)}")
    raise UserError(f"no recipe {text!r}: neither a file nor a shipped recipe; {_nearest(name, path, recipes)}")


def find_task(name: str) -> Path:
    """The recipe that stands for a task (``e2e``): a shipped one whose name ends so, or what `find_recipe` finds."""
    full = [path for recipe, path in shipped().items() if recipe.split("/")[-1] == name and "-mini/" not in recipe]
    return full[0] if len(full) == 1 else find_recipe(name)


def _inside(folder: Path) -> str:
    files = [str(path) for path in recipe_files(folder)]
    return f"; it holds: {', '.join(files[:8])}{', …' if len(files) > 8 else ''}" if files else ""


def _nearest(name: str, path: Path, recipes: dict[str, Path]) -> str:
    same_stem = [recipe for recipe in recipes if recipe.rsplit("/", 1)[-1] == name.rsplit("/", 1)[-1]]
    if same_stem:
        return "did you mean " + " or ".join(map(repr, same_stem)) + "?"
    if path.suffix in SUFFIXES and path.parent.is_dir():
        files = {child.name: str(child) for child in path.parent.iterdir() if child.suffix in SUFFIXES}
        if near := did_you_mean(path.name, files):
            return near
    return did_you_mean(name, recipes) or "autolora recipes list shows what there is"
