"""The schema that editors complete from: of draft 2020-12, true to the recipes, and refusing nothing that is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autolora.recipe.descriptions import FIELDS
from autolora.recipe.json_schema import FILE, json_schema, reference, schema_text
from autolora.recipe.messages import validation_faults
from autolora.recipe.plain_yaml import values
from autolora.recipe.shipped import recipes_folder, shipped

DOCS = Path(__file__).parents[2] / "docs"
CASES: list[tuple[str, Any, bool]] = [  # a field's section, its value, and whether a recipe may have it
    ("search", {"steps": 3, "epochs": 2}, False),
    ("search", {"steps": 3, "epochs": None}, True),
    ("search", {"rank": 0}, False),
    ("search", {"estimator": "none", "rank": 8}, True),
    ("search", {"estimator": "central"}, False),
    ("retrain", {"stpes": 3}, False),
    ("method", {"name": "lora", "size": 4, "budget": {"rank": 1}}, True),  # of a contradiction another check speaks
    ("method", {"name": "lora-plus", "size": 4, "ratio": 16}, True),
    ("method", {"name": "nobody"}, False),
    ("ranks", {"budget": {"rank": 1, "fraction": 0.5}}, False),
    ("ranks", {"budget": {"rank": 1, "fraction": None}}, True),
    ("data", {"path": "a", "generated": "facts"}, False),
    ("data", {"root": "a"}, False),
    ("data", {"path": "a", "columns": [1], "label": 2}, True),
    ("data", {"path": "a", "splits": {"train": ["a.csv", "b.csv"], "eval": [["c.csv"], "d.csv"]}}, True),
    ("data", {"path": "a", "splits": {"train": []}}, False),
    ("model", {"name": "x", "head": ["classifier"], "target_modules": "all-linear"}, True),
    ("model", {"name": "x", "target_modules": "all"}, False),
    ("eval", {"metrics": ["accuracy", "exactness"]}, False),
    ("seed", 1.5, False),
    ("task", "nothing", False),
]


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema", reason="an extra of development")
    jsonschema.Draft202012Validator.check_schema(json_schema())
    return jsonschema.Draft202012Validator(json_schema())


def test_every_shipped_recipe_fits(validator: Any) -> None:
    for name, path in shipped().items():
        assert [error.message for error in validator.iter_errors(values(path.read_text(encoding="utf-8")))] == [], name


@pytest.mark.parametrize(("section", "value", "right"), CASES)
def test_what_it_refuses_a_recipe_may_not_be(validator: Any, section: str, value: Any, right: bool) -> None:
    recipe = {**values(shipped()["quickstart"].read_text(encoding="utf-8")), "name": "x", section: value}
    faults = validation_faults(recipe, lambda field: "recipe")
    assert (not faults) is right
    if section != "method" or not right:
        assert validator.is_valid(recipe) == right


def test_it_says_what_a_method_does_not_take(validator: Any) -> None:
    recipe = values(shipped()["quickstart"].read_text(encoding="utf-8"))
    for settings, fits in (
        ({"name": "lora", "size": 4, "ratio": 2.0}, False),
        ({"name": "lora", "size": 4, "at": 0.5}, False),
        ({"name": "lora", "size": 4, "budget": {"rank": 1}}, False),
        ({"name": "lora", "size": 4, "budget": {"rank": None}}, True),
        ({"name": "squeeze", "at": 0.5, "budget": {"rank": 1}}, True),
    ):
        assert validator.is_valid({**recipe, "method": settings}) == fits, settings


def test_every_field_is_described_and_nothing_else() -> None:
    made = json_schema()
    there = {name: list(section["properties"]) for name, section in {"Recipe": made, **made["$defs"]}.items()}
    assert {name: sorted(fields) for name, fields in FIELDS.items()} == {
        name: sorted(fields) for name, fields in there.items()
    }


def test_what_is_kept_of_it_is_of_today() -> None:
    how = "write it anew: autolora recipes schema"
    assert (recipes_folder() / FILE).read_text(encoding="utf-8") == schema_text(), how
    assert (DOCS / "recipe-reference.md").read_text(encoding="utf-8") == reference(), f"{how} --markdown"
    assert json.loads(schema_text())["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_first_line_of_every_shipped_recipe_leads_to_it() -> None:
    for name, path in shipped().items():
        first, _, target = path.read_text(encoding="utf-8").partition("\n")[0].partition("$schema=")
        assert first == "# yaml-language-server: "
        assert (path.parent / target).resolve() == (recipes_folder() / FILE).resolve(), name
