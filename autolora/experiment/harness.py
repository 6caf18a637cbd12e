"""A run's adapter on tasks of lm-evaluation-harness: ``measure_with_harness(run, context, settings)``."""

from __future__ import annotations

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.evaluation.harness import HarnessSettings, check_harness, harness_rows
from autolora.experiment.base import settle_base
from autolora.experiment.evaluate import adapter_of
from autolora.experiment.prepare import prepare
from autolora.methods.base import method_of
from autolora.runs.inventory import HARNESS
from autolora.runs.lock import alone
from autolora.runs.seal import listing
from autolora.runs.store import Run
from autolora.tables import Row, write_table


@alone
def measure_with_harness(run: Run, context: Context, settings: HarnessSettings) -> list[Row]:
    """Load the adapter on its base as `autolora eval` does, and let the harness measure it; writes the table.

    Args:
        run: The run, after its retraining.
        context: Of its recipe.
        settings: What is measured.

    Returns:
        The rows of ``metrics-harness.md``, ``.csv`` and ``.json``.

    Raises:
        UserError: There is no adapter yet, the harness cannot do it, or the run is of no language model.
    """
    check_harness(settings)
    if not context.family.decodes:
        raise UserError(f"--harness measures language models, and {run.recipe.task} is a task without one")
    if context.compute.processes > 1:
        raise UserError("--harness measures with one process; start it without a launcher")
    adapter_of(run)
    prepare(context, run, training=False)
    settle_base(run, context)
    model = method_of(run).load(context.model(), context)
    rows = harness_rows(model, context.tokenizer, settings)
    with listing(run.path, *(f"{HARNESS}.{ending}" for ending in ("json", "md", "csv"))):
        write_table(rows, run.path, HARNESS)
    return rows
