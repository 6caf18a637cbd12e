"""The line of an experiment: search, retrain, evaluate; once, for the command line, comparisons and Python.

    run = Run.create(Path("runs"), load_recipe(Path("cola.yaml")))
    run_stages(run, Context(run.recipe))

Each stage writes into the run's directory, reads what the stage before it wrote, and goes on from its last checkpoint
if there is one that belongs to it. What is searched for and what is trained is the recipe's method
(`autolora.methods`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autolora.context.base import Context
from autolora.experiment.evaluate import evaluate
from autolora.experiment.retrain import retrain
from autolora.experiment.search import search
from autolora.methods.base import method_class
from autolora.runs.inventory import WHOLE, check_there
from autolora.runs.lock import alone
from autolora.runs.store import Run

STAGES: dict[str, Callable[[Run, Context], object]] = {"search": search, "retrain": retrain, "eval": evaluate}


def stages_left(run: Run) -> list[str]:
    """The stages of a run that have not succeeded yet; methods that find no ranks beforehand have no search.

    Args:
        run: The run, of whatever state.

    Raises:
        UserError: A file of one that has succeeded is missing, or not as long as it was.
    """
    searches = method_class(run.recipe.method.name).searches
    check_there(run.path, WHOLE, *STAGES)
    return [name for name in STAGES if (searches or name != "search") and run.stage_state(name) != "success"]


@alone
def run_stages(run: Run, context: Context, on_end: Callable[[str, Any], None] = lambda name, result: None) -> None:
    """Do what is left of a run.

    Args:
        run: The run, which may have been interrupted anywhere.
        context: Of its recipe.
        on_end: Told the name of every stage that was done here, and what it returned.
    """
    for name in stages_left(run):
        on_end(name, STAGES[name](run, context))
