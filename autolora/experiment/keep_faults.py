"""What a recipe says of choosing weights against its task: a metric that cannot score it."""

from __future__ import annotations

from autolora.errors import Fault, UserError
from autolora.experiment.model_faults import fault_at
from autolora.recipe.load import Limit, Where
from autolora.recipe.schema import Data, Eval
from autolora.recipe.stages import LOSS, Retrain
from autolora.registry import TASKS


def check_keep(
    data: Data, evaluation: Eval, retrain: Retrain, where: Where, task: str | None = None, limit: Limit = None
) -> list[Fault]:
    """Whether the task can be scored by what weights are chosen by.

    Args:
        data: The recipe's data section.
        evaluation: The recipe's eval section.
        retrain: The recipe's retrain section.
        where: Gives the place of a dotted field.
        task: The recipe's task family; None where the recipe names none that there is.
        limit: The highest rank of a layer; it has no bearing on this check.
    """
    if task is None or retrain.by == LOSS:
        return []
    try:
        found = TASKS.load(task).faults(
            data, evaluation.model_copy(update={"metrics": (retrain.by,), "positive": None})
        )
        return [
            fault_at("retrain.by", message, where, f"{hint}, {LOSS}")
            for field, message, hint in found
            if field.startswith("eval.metrics")
        ]
    except UserError:  # which `check_family` says
        return []
