"""Whether the metrics can use a split's references, said before anything is trained: ``check_references(task, …)``."""

from __future__ import annotations

from autolora.data.splits import Splits
from autolora.errors import UserError
from autolora.tasks.base import Task


def check_references(task: Task, splits: Splits, split: str) -> None:
    """Make sure that every metric of the recipe can use every reference of an evaluation split.

    Args:
        task: With the recipe's metrics.
        splits: The raw rows, and how they were read.
        split: Its name; without labels there is nothing to check.

    Raises:
        UserError: A reference cannot be used; the message has its place.
    """
    report = splits.reports[split]
    if not report.labelled:
        return
    for row, fault in task.reference_faults(report.all_rows):
        raise UserError(
            f"{report.places(row)}: {task.data.label!r}: {fault}; mend the row, or leave the metric out of eval.metrics"
        )
