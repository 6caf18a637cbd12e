"""What --sweep means: fields, typed values, ranges; and what is refused, all together."""

from __future__ import annotations

import pytest

from autolora.errors import UserError
from autolora.recipe.plain_yaml import values
from autolora.recipe.sweeping import Sweep, asked_sweep, parse_sweep, seeds_of, swept, written


def test_the_points_are_the_product_the_last_field_the_quickest() -> None:
    sweep = parse_sweep(["search.rank=4,8", "search.inner_step=plain,adam"])
    assert [point.label for point in sweep.points] == [
        "search.rank=4 search.inner_step=plain",
        "search.rank=4 search.inner_step=adam",
        "search.rank=8 search.inner_step=plain",
        "search.rank=8 search.inner_step=adam",
    ]
    assert sweep.points[0].overrides == ("search.rank=4", "search.inner_step=plain")
    assert sweep.points[3].values == {"search.rank": 8, "search.inner_step": "adam"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("search.rank=0-3,8", [0, 1, 2, 3, 8]),
        ("search.rank= 4 , 8 ", [4, 8]),
        ("retrain.weights.learning_rate=1e-4,3e-4", [1e-4, 3e-4]),
        ("search.threshold=null,0.5", [None, 0.5]),
        ("search.meta_learning=true,false", [True, False]),
        ("model.target_modules=all-linear,[query, value]", ["all-linear", ["query", "value"]]),
        ("model.revision=2001-2004,x", ["2001-2004", "x"]),  # text: no range
        ('model.revision="4","a,b"', ["4", "a,b"]),
    ],
)
def test_values_are_typed_as_yaml(text: str, expected: list[object]) -> None:
    field = text.partition("=")[0]
    found = [point.values[field] for point in parse_sweep([text]).points]
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


@pytest.mark.parametrize("value", [4, 1e-5, 0.1, True, None, "adam", "4", "null", "a,b", " a", "x: y", "", ["a", "b"]])
def test_a_value_is_read_back_as_it_was(value: object) -> None:
    found = values(written(value))
    assert (type(found), found) == (type(value), value)


def test_from_python_the_same_points() -> None:
    assert swept({"search.rank": [4, 8], "seed": range(3)}) == parse_sweep(["search.rank=4,8", "seed=0-2"])
    assert swept({"search__rank": "4-5"}) == parse_sweep(["search.rank=4,5"])


def test_everything_that_is_wrong_is_said_at_once() -> None:
    wrong = [
        "search.rnk=4",
        "method.name=svd",
        "eval.metrics=[a]",
        "search=1",
        "search.rank=4,4",
        "data.path",
        "seed=x",
    ]
    with pytest.raises(UserError) as caught:
        parse_sweep([*wrong, "ranks.examples=9-3", "search.at="])
    lines = str(caught.value).splitlines()
    assert lines == [
        "--sweep data.path: write KEY=VALUE,VALUE,…, as in search.rank=4,8,16 or seed=0-4",
        "--sweep search.rnk: unknown key (did you mean 'search.rank'?)",
        "--sweep method.name: cannot be swept: methods are compared by --methods, as in --methods lora:4,lora:8; of "
        "their rates, sweep retrain.weights.learning_rate",
        "--sweep eval.metrics: cannot be swept: it changes what is measured, and scores of different measures cannot "
        "be compared",
        "--sweep search: it is a section; sweep one of its fields, as in search.steps=…",
        "--sweep search.rank: 4 is given twice; leave one out",
        "--sweep ranks.examples: a range goes from its smaller end to its larger, got '9-3'",
        "--sweep search.at: it has no value; write KEY=VALUE,VALUE,…, as in search.rank=4,8,16 or seed=0-4",
    ]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["search.rank=4", "search.rank=8"], "search.rank is given twice"),
        (["search.rank=0-9999"], "at most 1000 values"),
        (["search.rank=1-100", "search.steps=1-100"], "10000 points are more than 1000"),
        (["seed=-1"], "a seed is a whole number from 0"),
        (["search.rank=[4"], "the values are no YAML"),
    ],
)
def test_what_cannot_be_is_refused(texts: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_sweep(texts)


@pytest.mark.parametrize(
    "field", ["data.path", "data.hub", "data.label", "data.category", "data.missing", "data.splits.held_out"]
)
def test_what_changes_the_rows_that_are_measured_is_swept_by_nobody(field: str) -> None:
    with pytest.raises(UserError, match=rf"{field}: cannot be swept: it changes what is measured"):
        parse_sweep([f"{field}=0.1,0.2"])


def test_seeds_are_said_once() -> None:
    assert seeds_of(parse_sweep(["seed=0-2,7"]), None) == [0, 1, 2, 7]
    assert seeds_of(Sweep({}), None) == [0, 1, 2, 3, 4]
    assert seeds_of(Sweep({}), "3") == [3]
    with pytest.raises(UserError, match="say the same"):
        seeds_of(parse_sweep(["seed=0"]), "0-4")


def test_choosing_needs_a_choice_and_is_done_once() -> None:
    with pytest.raises(UserError, match="give two or more"):
        asked_sweep(parse_sweep(["search.rank=4"]), select=True, tuned=False)
    with pytest.raises(UserError, match="choose twice"):
        asked_sweep(parse_sweep(["search.rank=4,8"]), select=True, tuned=True)
