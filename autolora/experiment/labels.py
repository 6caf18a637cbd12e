"""Names of classes settled once a run: ``settle_labels(run, context)``, in front of every stage."""

from __future__ import annotations

from autolora.context.base import Context
from autolora.data.labels import listed
from autolora.errors import UserError
from autolora.runs.labels import read_labels, write_labels
from autolora.runs.store import Run


def settle_labels(run: Run, context: Context) -> None:
    """Take the names from the run where it has them; else settle them from recipe and data, and keep them there.

    Args:
        run: The run.
        context: Of its recipe, whose task has not been made yet where the run has names.

    Raises:
        UserError: The recipe names other classes than the run was trained with, or a label is none of them.
    """
    kept = read_labels(run.path)
    if kept is None:
        if context.main and context.task.names:
            write_labels(run.path, context.task.names)
        context.compute.wait()
        return
    given = run.recipe.data.labels
    if given is not None and list(given) != kept:
        raise UserError(
            f"data.labels: {run.path} was trained with the classes {listed(kept)}, and the recipe names "
            f"{listed(given)}; take that back, or start a new run"
        )
    context.kept_labels = kept
