"""Numbers of a recipe that are right one by one and contradict each other: batches, lengths, rates, thresholds.

Each is the check of one section, or of several, for `autolora.recipe.load.read_recipe`; `where` gives the place of a
dotted field.
"""

from __future__ import annotations

from autolora.errors import Fault, Found, faults_of
from autolora.recipe.fields import MAX_STEPS
from autolora.recipe.load import Limit, Where
from autolora.recipe.schema import Data
from autolora.recipe.stages import Retrain, Schedule, Search, Steps

MAX_SEEN = 10**12  # examples that a stage sees; more than all texts there are


def check_search(search: Search, where: Where, task: str | None = None, limit: Limit = None) -> list[Fault]:
    """What is wrong between the numbers of the search.

    Args:
        search: The recipe's search section.
        where: Gives the place of a dotted field.
        task: The recipe's task family; it has no bearing on this check.
        limit: Of ranks; nor has it.
    """
    rates = {"weights": search.weights, "selection": search.selection}
    return faults_of([*_stage("search", search, rates), *_threshold(search), *_selection(search)], where)


def check_retrain(retrain: Retrain, where: Where, task: str | None = None, limit: Limit = None) -> list[Fault]:
    """What is wrong between the numbers of the retraining.

    Args:
        retrain: The recipe's retrain section.
        where: Gives the place of a dotted field.
        task: The recipe's task family; it has no bearing on this check.
        limit: Of ranks; nor has it.
    """
    return faults_of(_stage("retrain", retrain, {"weights": retrain.weights}), where)


def check_amounts(
    data: Data, search: Search, retrain: Retrain, where: Where, task: str | None = None, limit: Limit = None
) -> list[Fault]:
    """What the stages take of the data against what `data.limits` leaves of it.

    Args:
        data: The recipe's data section.
        search: Its search section.
        retrain: Its retrain section.
        where: Gives the place of a dotted field.
        task: The recipe's task family; it has no bearing on this check.
        limit: Of ranks; nor has it.
    """
    rows = data.limits.train
    if rows is None:
        return []
    found = [*_of_rows("search", search, rows), *_of_rows("retrain", retrain, rows)]
    if search.selects and search.meta_learning and rows < 2:
        found.append(("data.limits.train", "1 example cannot be divided into D_tr and D_val", "raise it"))
    return faults_of(found, where)


def _stage(name: str, stage: Steps, rates: dict[str, Schedule]) -> Found:
    size, parts, steps = stage.batch_size, stage.gradient_accumulation, stage.steps
    if parts > size:
        said = f"a batch of {size} examples cannot be split into {parts} micro-batches"
        yield f"{name}.gradient_accumulation", said, f"lower it to {size}, or raise {name}.batch_size"
    if steps is not None and steps * size > MAX_SEEN:
        said = f"{steps} steps of {size} examples are {steps * size:g} examples, and {MAX_SEEN:g} are the most"
        yield f"{name}.steps", said, f"lower it, or {name}.batch_size"
    for key, rate in rates.items():
        if (taken := rate.learning_rate * rate.weight_decay) >= 1:
            said = f"times learning_rate it is {taken:g}, and a step that takes 1 off every weight leaves nothing"
            yield f"{name}.{key}.weight_decay", said, "lower it; 0 to 0.1 is usual"


def _threshold(search: Search) -> Found:
    """Of selection variables between 0 and 1, which a threshold must divide."""
    value = search.threshold
    if value is not None and search.constraint != "none" and not 0 <= value < 1:
        said = f"selection variables lie between 0 and 1 with constraint {search.constraint}, got {value:g}"
        yield "search.threshold", said, "leave it out, which is 1/k for softmax and 0.5 for sigmoid"


def _selection(search: Search) -> Found:
    """Of how often the selection variables are stepped; where it is epochs that are said, the search itself looks."""
    every, steps = search.selection.every, search.steps
    if steps is not None and every > steps:
        said = f"{every} is more than the {steps} steps there are: the selection variables would not be stepped"
        yield "search.selection.every", said, "lower it, or raise search.steps"


def _of_rows(name: str, stage: Steps, rows: int) -> Found:
    """A batch that is said, and a number of steps, against the rows that are left."""
    if stage.batch_size > rows and stage.batch_size != Steps.model_fields["batch_size"].default:
        said = f"{stage.batch_size} examples are more than the {rows} that data.limits.train leaves"
        yield f"{name}.batch_size", said, f"lower it to {rows}, or raise data.limits.train"
    if stage.epochs is not None and (steps := stage.total_steps(rows)) > MAX_STEPS:
        said = f"{stage.epochs:g} epochs of {rows} examples are {steps} steps, and {MAX_STEPS:g} are the most"
        yield f"{name}.epochs", said, "lower it"
