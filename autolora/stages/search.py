"""The search stage: the ranks, by whatever way the recipe's method finds them."""

from __future__ import annotations

from typing import Any

from autolora.lab import Lab
from autolora.methods.base import method_of
from autolora.runs.store import Run
from autolora.stages.steps import forget_seconds


def search(run: Run, lab: Lab) -> dict[str, Any]:
    """Find the ranks by the recipe's method; writes ``search/`` and returns the content of ``search/ranks.json``."""
    method = method_of(run)
    forget_seconds(run, "search")
    with run.stage("search"):
        record = method.search(run, lab)
        lab.accelerator.wait_for_everyone()  # the next stage reads what the main process has written
    return record
