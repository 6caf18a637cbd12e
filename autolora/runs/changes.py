"""What may not change in a recipe once its run has been searched: ``check_unchanged(run, recipe)``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from autolora.errors import UserError
from autolora.recipe.fields import WHOLE
from autolora.recipe.schema import Recipe
from autolora.runs.store import Run


def check_unchanged(run: Run, recipe: Recipe) -> None:
    """Make sure that a recipe, with what the command line changed, still fits what a run's search found.

    Args:
        run: With the recipe that it was searched with.
        recipe: What it shall go on with.

    Raises:
        UserError: The search depended on something that is different now.
    """
    if run.stage_state("search") != "success":
        return
    before, after = _searched_with(run.recipe), _searched_with(recipe)
    for field in {**before, **after}:
        if before.get(field) != after.get(field):  # a section that may be left out has no fields then
            raise UserError(
                f"{run.path} was searched with {field} {before.get(field)}, not {after.get(field)}; "
                "start a new run with: autolora search"
            )


def _searched_with(recipe: Recipe) -> dict[str, object]:
    """What may not change after the search, by dotted field; where the data and the model lie may."""
    values = {
        "task": recipe.task,
        "seed": recipe.seed,
        "method": recipe.method.model_dump(context=WHOLE),
        "search": recipe.search.model_dump(exclude={"checkpoint_every", "log_every"}, context=WHOLE),
        "data": recipe.data.model_dump(exclude={"root": True, "splits": {"eval"}, "limits": {"eval"}}, context=WHOLE),
        "loss": recipe.loss.model_dump(context=WHOLE),
        "retrain": {"held_out": recipe.retrain.kept_out},
    }
    return dict(_flat(values))


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
