"""The GLUE benchmark's test-set files: ``submission/CoLA.tsv`` with a header and the prediction of every test example.

Which files, from which splits, a recipe says in `eval.submission`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autolora.data.load import INDEX
from autolora.recipe.schema import Submission


def submission_lines(rows: Any, predictions: Sequence[dict[str, Any]], names: Sequence[str], how: Submission) -> str:
    """One file's text.

    The index is the data's own (`idx`) where it has one, else the row's number from 0. Scores are cut to their range.

    Args:
        rows: The test split.
        predictions: A record with "prediction" for each row.
        names: Of the labels, by id; empty for scores.
        how: Whether names, ids or scores are written, and the scores' range.
    """
    index = rows[INDEX] if INDEX in rows.column_names else range(len(rows))
    lines = [f"{i}\t{_shown(p['prediction'], names, how)}" for i, p in zip(index, predictions, strict=True)]
    return "\n".join(["index\tprediction", *lines]) + "\n"


def _shown(prediction: float, names: Sequence[str], how: Submission) -> str:
    if how.prediction == "score":
        low, high = how.range
        return f"{min(max(prediction, low), high):.3f}"
    return names[int(prediction)] if how.prediction == "name" else str(int(prediction))
