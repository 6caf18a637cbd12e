"""The GLUE benchmark's test-set files: ``submission/CoLA.tsv`` with a header and the prediction of every test example.

Which files, from which splits, a recipe says in `eval.submission`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autolora.data.load import INDEX
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
