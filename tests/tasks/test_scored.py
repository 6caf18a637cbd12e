"""The scores of splits and of their parts as rows, and the one number that methods are compared by."""

from __future__ import annotations

import math
from typing import Any

import pytest
from datasets import Dataset

from autolora.metrics.base import Score
from autolora.recipe.schema import Data, Eval
from autolora.tasks.classification import Classification
from autolora.tasks.scored import Scored, over_splits
from autolora.tasks.tagging import Tagging


def accuracy(value: float | None) -> Score:
    return Score("accuracy", value, higher_is_better=True, low=0.0, high=1.0)


def edits(value: float | None) -> Score:
    return Score("ter", value, higher_is_better=False, low=0.0, high=None)


def test_a_row_is_the_part_then_the_scores_then_the_counts() -> None:
    row = Scored((edits(0.5), accuracy(None)), {"type": "all"}, {"words": 3}).row()
    assert list(row.items()) == [("type", "all"), ("ter", 0.5), ("accuracy", None), ("words", 3)]


def test_scores_of_whole_splits_are_averaged_and_those_of_parts_are_not() -> None:
    scored = [
        Scored((edits(0.2), accuracy(0.5))),
        Scored((edits(9.0), accuracy(0.0)), {"type": "x"}, whole=False),
        Scored((edits(0.6), accuracy(1.0))),
    ]
    assert over_splits(scored) == (edits(pytest.approx(0.4)), accuracy(0.75))


@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_score_that_one_split_lacks_has_no_mean(missing: float | None) -> None:
    found = over_splits([Scored((edits(0.2), accuracy(missing))), Scored((edits(0.4), accuracy(1.0)))])
    assert found == (edits(pytest.approx(0.3)), accuracy(None))


@pytest.mark.parametrize(("metrics", "name", "value"), [(("accuracy", "f1"), "accuracy", 0.75), (("f1",), "f1", 0.8)])
def test_the_headline_is_the_recipes_first_metric(metrics: tuple[str, ...], name: str, value: float) -> None:
    rows = Dataset.from_dict({"sentence": ["a"] * 2, "label": ["0", "1"]})
    task = Classification(Data(path="x"), Eval(metrics=metrics), {"train": rows})
    examples: list[dict[str, Any]] = [{"label": label} for label in (1, 1, 0, 0)]
    scored = task.metrics([{"prediction": label} for label in (1, 1, 1, 0)], examples)
    found = task.headline(scored)
    assert (found.name, found.value, found.higher_is_better) == (name, pytest.approx(value), True)


def test_the_headline_of_tags_is_f1_over_all_types() -> None:
    rows = {"tokens": [["a", "b"]], "tags": [["B-x", "B-y"]]}
    data = Data(path="x", columns=("tokens",), label="tags")
    task = Tagging(data, Eval(metrics=("entities",)), {"train": Dataset.from_dict(rows)})
    # One of two found entities is right, one of two is found.
    scored = task.metrics([{"prediction": ["B-x", "B-x"], "cut_off": 0}], [{"tags": ["B-x", "B-y"]}])
    assert [each.whole for each in scored] == [True, False, False]
    assert (task.headline(scored).name, task.headline(scored).value) == ("f1", 0.5)
