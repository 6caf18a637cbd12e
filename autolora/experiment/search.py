"""The search stage: the ranks, by whatever way the recipe's method finds them."""

from __future__ import annotations

from autolora.context.base import Context
from autolora.context.steps import forget_seconds
from autolora.experiment.announcement import announce
from autolora.experiment.base import settle_base
from autolora.experiment.prepare import keep_labels, prepare
from autolora.experiment.short_memory import sized
from autolora.lora.ranks import Ranks
from autolora.methods.base import method_of
from autolora.runs.lock import alone
from autolora.runs.store import Run


@alone
def search(run: Run, context: Context) -> Ranks:
    """Find the ranks by the recipe's method; writes ``search/`` and returns them.

    Args:
        run: The run.
        context: Of its recipe.

    Raises:
        UserError: The method searches for nothing, or a checkpoint belongs to other settings, data or model.
    """
    method = method_of(run)
    if method.searches:
        prepare(context, run)
    forget_seconds(run, "search")
    with run.stage("search"), sized(run, context, "search"):
        keep_labels(run, context)
        settle_base(run, context)
        announce(run, context)
        ranks = method.search(context)
        context.compute.wait()  # the next stage reads what the main process has written
    return ranks
