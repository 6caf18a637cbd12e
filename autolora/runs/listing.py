"""The runs below a folder, oldest first: ``runs(root)``, ``same_runs(root, recipe)``."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from autolora.console import warn
from autolora.errors import UserError
from autolora.files import read_json
from autolora.recipe.schema import Recipe
from autolora.runs.folders import run_folders
from autolora.runs.store import Run


def runs(root: Path, recipe_name: str | None = None) -> list[Run]:
    """All runs below `root`, oldest first; a damaged one is left out, and named; so is what only tries a setting.

    Args:
        root: Where runs are.
        recipe_name: Only runs of this recipe (``NAME/_tuning``: those that try a setting for it); None for all.

    Raises:
        UserError: The newest run is damaged.
    """
    found = [(_created(path), path) for path in run_folders(root, recipe_name)]
    opened = []
    for _, path in sorted(found):
        try:
            opened.append(Run.open(path))
        except UserError as error:
            if path == max(found)[1]:
                raise
            _leave_out(str(error))
    return opened


@cache
def _leave_out(why: str) -> None:
    """Say it, once in a process."""
    warn(f"note: a run is left out: {why}")


def same_runs(root: Path, recipe: Recipe) -> list[Run]:
    """The runs below `root` of exactly this resolved recipe, oldest first.

    Args:
        root: Where runs are.
        recipe: With its method and seed.
    """
    return [run for run in runs(root, recipe.name) if run.recipe == recipe]


def _created(path: Path) -> str:
    """When a run was made; "" where its manifest does not say."""
    try:
        manifest = read_json(path / "manifest.json")
    except UserError:
        return ""
    return str(manifest.get("created", "")) if isinstance(manifest, dict) else ""
