"""The GLUE benchmark's test-set files: ``submission/CoLA.tsv`` with a header and the prediction of every test example.

Which files, from which splits, a recipe says in `eval.submission`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autolora.data.load import INDEX
from autolora.data.splits import Report
from autolora.errors import UserError
from autolora.recipe.schema import Submission
from autolora.safe import tsv_field


def submission_lines(rows: Any, predictions: Sequence[dict[str, Any]], names: Sequence[str], how: Submission) -> str:
    """One file's text.

    The index is the data's own (`idx`) where it has one, else the row's number from 0. Scores are cut to their range.

    Args:
        rows: The test split.
        predictions: A record with "prediction" for each row.
        names: Of the labels, by id; empty for scores.
        how: Whether names, ids or scores are written, and the scores' range.

    Raises:
        UserError: An index or a name cannot stand in such a file.
    """
    index = rows[INDEX] if INDEX in rows.column_names else range(len(rows))
    lines = [f"{_index(i)}\t{_shown(p['prediction'], names, how)}" for i, p in zip(index, predictions, strict=True)]
    return "\n".join(["index\tprediction", *lines]) + "\n"


def check_rows(rows: Any, report: Report, split: str) -> None:
    """Refuse a split of which no file can be made, before anything is predicted: a benchmark counts every row.

    Args:
        rows: The test split.
        report: How it was read.
        split: Its name.

    Raises:
        UserError: Rows were dropped, or some have an index and others none.
    """
    if report.dropped:
        raise UserError(
            f"--submission: {report.dropped} rows of split {split!r} lack a cell, the first {report.first_dropped}, "
            "and the benchmark wants a prediction of every row; fill them in, data.missing: drop notwithstanding"
        )
    if INDEX in rows.column_names:
        lacking = next((row for row, value in enumerate(rows[INDEX]) if value is None), None)
        if lacking is not None:
            raise UserError(
                f"{report.places(lacking)}: {INDEX!r} is missing, which other rows have, and it is the index in the "
                "submission; fill it in, or take the column out: rows are then counted from 0"
            )


def _shown(prediction: float, names: Sequence[str], how: Submission) -> str:
    if how.prediction == "score":
        low, high = how.range
        return f"{min(max(prediction, low), high):.3f}"
    return tsv_field(names[int(prediction)], "the label") if how.prediction == "name" else str(int(prediction))


def _index(value: object) -> str:
    return tsv_field(str(value), f"the {INDEX}")


def check_names(names: Sequence[str], how: Submission) -> None:
    """Refuse names of labels that the file cannot hold, before anything is predicted.

    Args:
        names: Of the labels.
        how: Whether it is names that are written.

    Raises:
        UserError: One has a tab in it, for instance.
    """
    if how.prediction == "name":
        for name in names:
            tsv_field(name, "the label")
