"""A run's own recipe: ``read_resolved(folder / "recipe.yaml")``."""

from __future__ import annotations

from pathlib import Path

from autolora.errors import UserError
from autolora.recipe.plain_yaml import values
from autolora.recipe.schema import Recipe


def read_resolved(path: Path) -> Recipe:
    """A run's own recipe, as it was resolved; its files are not checked again.

    Args:
        path: The run's recipe.yaml.

    Raises:
        UserError: It is missing or damaged.
    """
    try:
        return Recipe.model_validate(values(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not the resolved recipe of a run: {error}") from error
