"""Whose paths a run's recipe has: ``check_reach(run, recipe)``.

A run folder may come from anybody, and its recipe.yaml names folders that a command then reads. They are followed
where the run was made here (its manifest has this user's mark of recipe.yaml's bytes, see `autolora.runs.key`), where
they lie below the run's folder, and where the user says the same: on the command line, or in the recipe that is named.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from autolora.data.files import is_local
from autolora.errors import UserError
from autolora.planted.kinds import is_planted
from autolora.recipe.schema import Recipe
from autolora.runs.inventory import RECIPE
from autolora.runs.key import is_signed, key_fault
from autolora.runs.store import Run

OPTIONS = {"data.root": "--data-root DIR", "model.name": "--model PATH"}  # what says the same on the command line


def local_paths(recipe: Recipe) -> dict[str, str]:
    """What a recipe has of this machine's folders, by dotted field; all else that it reads lies below them.

    Args:
        recipe: As `autolora.recipe.load.read_recipe` gives it: its paths are absolute.
    """
    data, name = recipe.data, recipe.model.name
    found = {"data.root": data.root or "."} if is_local(data) else {}
    if not is_planted(name) and not name.startswith("bundled:") and (Path(name).is_absolute() or name[0] in ".~/\\"):
        found["model.name"] = name
    return found


def made_here(run: Run) -> bool:
    """Whether a run's recipe is as this user's own commands wrote it.

    Args:
        run: It.

    Raises:
        UserError: Its manifest is damaged.
    """
    return is_signed((run.path / RECIPE).read_bytes(), run.marks())


def check_reach(run: Run, recipe: Recipe, said: Collection[str] = (), own: Recipe | None = None) -> None:
    """Make sure that every folder that a run's recipe names is one that the user means.

    Args:
        run: The run.
        recipe: Its own, with what the command line changed; nothing has been read by it yet.
        said: What the command line said, by dotted field or section.
        own: The recipe that the user has named, where that is how the run was found.

    Raises:
        UserError: One is not; the message says what to give.
    """
    named = {} if own is None else local_paths(own)
    home = run.path.resolve()
    strange = {
        field: path
        for field, path in local_paths(recipe).items()
        if not any(f"{field}.".startswith(f"{each}.") for each in said)
        and named.get(field) != path
        and not _below(path, home)
    }
    if not strange or made_here(run):
        return
    paths = " and ".join(f"{field}: {path}" for field, path in strange.items())
    options = " ".join(OPTIONS[field] for field in strange)
    fault = key_fault()
    raise UserError(
        f"{run.path} does not count as made here: it has no mark of yours that fits its recipe.yaml (it was made by "
        "somebody else, on another machine or by an earlier version, or the file was edited). What it names on this "
        f"machine is not read unless you say so: {paths}; give {options}{f'. Also, {fault}' if fault else ''}"
    )


def _below(path: str, folder: Path) -> bool:
    try:
        return Path(path).resolve().is_relative_to(folder)
    except (OSError, RuntimeError):  # links in a circle
        return False
