"""The raw rows that a recipe is about: ``splits, kept_out = rows_of(recipe, family)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from autolora.data.held_out import hold_out
from autolora.data.load import Family, content_hash, load_splits
from autolora.data.splits import Splits
from autolora.planted.kinds import seeded
from autolora.recipe.schema import Recipe

if TYPE_CHECKING:
    from datasets import Dataset


def rows_of(recipe: Recipe, family: Family) -> tuple[Splits, Dataset | None]:
    """The rows of the training split and the evaluation splits, by name, and how they were read.

    Args:
        recipe: With its seed.
        family: What the columns must hold.

    Returns:
        The splits, and the rows of the training split by which weights are chosen: nothing else gets to see them, so
        they are not in it. None where none are.

    Raises:
        UserError: As `load_splits`.
    """
    found = load_splits(recipe.data, recipe.seed, family, model=seeded(recipe.model, recipe.seed).name)
    if (share := recipe.retrain.kept_out) is None:
        return found, None
    train = recipe.data.splits.train
    rows = found[train]
    parts = hold_out(rows, range(len(rows)), recipe.data, family, recipe.seed, share=share, field="retrain.held_out")
    found[train] = rows.select(parts.train, keep_in_memory=True)
    return found, rows.select(parts.held, keep_in_memory=True)


def hashes_of(splits: Mapping[str, Dataset]) -> dict[str, str]:
    """A hash of the rows of each split, by name.

    Args:
        splits: From `rows_of`.
    """
    return {name: content_hash(rows) for name, rows in splits.items()}
