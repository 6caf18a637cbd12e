"""What may not change in a recipe once its run has been searched, or trained: ``check_unchanged(run, recipe)``.

A run's recipe.yaml is what its results are known by. What a stage that has ended depended on can't be changed by a
command that builds on that stage: it would have no effect, and the run would say that it was made with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from autolora.errors import UserError
from autolora.recipe.fields import WHOLE
from autolora.recipe.schema import Recipe
from autolora.runs.store import Run

# Where the data and the model lie may change, and so may what is evaluated on.
_PLACES = {"name": True, "revision": True, "trust_remote_code": True}
_PASSES = {"attn_implementation": True, "torch_compile": True, "gradient_checkpointing": True}  # how they are made
_EVALUATED: dict[str, Any] = {
    "root": True,
    "splits": {"eval"},
    "limits": {"eval"},
    "evaluation": True,
    "category": True,
}
_NOTED = {"checkpoint_every": True, "log_every": True}


def check_unchanged(run: Run, recipe: Recipe, *, anew: bool = False) -> None:
    """Make sure that a recipe, with what the command line changed, still fits what a run has found and trained.

    Args:
        run: With the recipe that it was made with.
        recipe: What it shall go on with.
        anew: Whether it is trained anew, so that what its training depended on may change.

    Raises:
        UserError: A stage that has ended depended on something that is different now.
    """
    if run.stage_state("search") == "success":
        _check(run, "searched", _searched_with, recipe, "start a new run with: autolora search")
    if run.stage_state("retrain") == "success" and not anew:
        remedy = f"train it anew with: autolora retrain {run.path} --set …, or start a new run"
        _check(run, "trained", _trained_with, recipe, remedy)


def _check(run: Run, done: str, with_what: Any, recipe: Recipe, remedy: str) -> None:
    before, after = (dict(_flat(with_what(each))) for each in (run.recipe, recipe))
    for field in {**before, **after}:
        if before.get(field) != after.get(field):  # a section that may be left out has no fields then
            raise UserError(f"{run.path} was {done} with {field} {before.get(field)}, not {after.get(field)}; {remedy}")


def _searched_with(recipe: Recipe) -> dict[str, object]:
    """What may not change after the search, by section."""
    return {
        "task": recipe.task,
        "seed": recipe.seed,
        "method": recipe.method.model_dump(context=WHOLE),
        "search": recipe.search.model_dump(exclude=_NOTED, context=WHOLE),
        "ranks": recipe.ranks.model_dump(context=WHOLE),
        "data": recipe.data.model_dump(exclude=_EVALUATED, context=WHOLE),
        "loss": recipe.loss.model_dump(context=WHOLE),
        "retrain": {"held_out": recipe.retrain.kept_out},
    }


def _trained_with(recipe: Recipe) -> dict[str, object]:
    """What may not change after the training, likewise."""
    return {
        **_searched_with(recipe),
        "model": recipe.model.model_dump(exclude=_PLACES | _PASSES, context=WHOLE),
        "retrain": recipe.retrain.model_dump(exclude=_NOTED, context=WHOLE),
    }


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
