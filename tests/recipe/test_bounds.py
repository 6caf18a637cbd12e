"""Every number of a recipe has a range with a reason, every text a rule; and what lies outside is refused with both."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, Lt, MaxLen
from pydantic import AfterValidator
from pydantic.fields import FieldInfo

from autolora.errors import RecipeError, UserError
from autolora.recipe.fields import Section
from autolora.recipe.load import dump_recipe, read_recipe
from autolora.recipe.method import MAX_SEEDS, parse_seeds
from autolora.recipe.plain_yaml import dump, values
from autolora.recipe.schema import Recipe
from autolora.recipe.tuning import MAX_GRID, parse_tune

VALID: dict[str, Any] = {"name": "x", "task": "classification", "model": {"name": "a/b"}, "data": {"hub": "a/b"}}
Leaf = tuple[str, type, list[Any], str]  # dotted path, type, its rules, the reason


def _parts(path: str, annotation: Any, rules: list[Any], why: str) -> Iterator[Leaf]:
    if annotation is None or annotation is type(None) or get_origin(annotation) is Literal:
        return
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        for each in more:
            if isinstance(each, FieldInfo):
                rules, why = [*rules, *each.metadata], each.description or why
            else:
                rules = [*rules, each]
        yield from _parts(path, inner, rules, why)
    elif isinstance(annotation, type) and issubclass(annotation, Section):
        yield from leaves(annotation, path)
    elif get_args(annotation):  # of a union, a tuple, a dict: what the whole has is no rule of its parts
        for part in get_args(annotation):
            if part is not Ellipsis:
                yield from _parts(path, part, [], "")
    else:
        yield path, annotation, rules, why


def leaves(section: type[Section], path: str = "") -> Iterator[Leaf]:
    """Every number, text and switch of a section and of those below it."""
    for name, info in section.model_fields.items():
        yield from _parts(f"{path}.{name}".lstrip("."), info.annotation, list(info.metadata), info.description or "")


LEAVES = list(leaves(Recipe))
NUMBERS = [leaf for leaf in LEAVES if leaf[1] in (int, float)]


def bounds(rules: list[Any]) -> tuple[float, float]:
    low = [rule.ge if isinstance(rule, Ge) else rule.gt for rule in rules if isinstance(rule, Ge | Gt)]
    high = [rule.le if isinstance(rule, Le) else rule.lt for rule in rules if isinstance(rule, Le | Lt)]
    return max(low, default=-math.inf), min(high, default=math.inf)  # type: ignore[type-var, return-value]


def test_the_walk_finds_the_fields_of_every_section() -> None:
    found = {path for path, *_ in LEAVES}
    assert {
        "seed",
        "search.weights.learning_rate",
        "eval.submission.range",
        "data.labels",
        "method.budget.rank",
    } <= found
    assert len(NUMBERS) > 45
    assert {kind for _, kind, *_ in LEAVES} == {int, float, str, bool}


@pytest.mark.parametrize(("path", "kind", "rules", "why"), NUMBERS, ids=[path for path, *_ in NUMBERS])
def test_every_number_has_a_finite_range_with_a_reason(path: str, kind: type, rules: list[Any], why: str) -> None:
    low, high = bounds(rules)
    assert math.isfinite(low)
    assert math.isfinite(high)
    assert low < high
    assert len(why) > 10
    if kind is float:
        assert any(getattr(rule, "allow_inf_nan", None) is False for rule in rules)


@pytest.mark.parametrize(("path", "kind", "rules", "why"), [leaf for leaf in LEAVES if leaf[1] is str])
def test_every_text_has_a_rule(path: str, kind: type, rules: list[Any], why: str) -> None:
    longest = any(isinstance(rule, MaxLen) for rule in rules)
    choice = any(isinstance(rule, AfterValidator) for rule in rules)
    assert longest or choice or why == "free text"


@pytest.mark.parametrize(("path", "kind", "rules", "why"), NUMBERS, ids=[path for path, *_ in NUMBERS])
def test_a_number_outside_its_range_is_refused_with_field_line_rule_and_reason(
    tmp_path: Path, path: str, kind: type, rules: list[Any], why: str
) -> None:
    low, high = bounds(rules)
    for wrong in (low - 1, high * 1.01 + 1, -1e300, 1e300, math.inf, -math.inf, math.nan):
        value: Any = int(wrong) if kind is int and abs(wrong) < 1e18 else wrong
        given: Any = [value, 5.0] if path.endswith(".range") else value
        made = _with(path, given)
        (file := tmp_path / "r.yaml").write_text(dump(made), encoding="utf-8")
        line = next(
            n for n, text in enumerate(file.read_text().splitlines(), 1) if path.rpartition(".")[2] + ":" in text
        )
        with pytest.raises(RecipeError) as error:
            read_recipe(file)
        found = [fault for fault in error.value.faults if fault.field == path]
        assert len(found) == 1, (path, value, error.value.faults)
        assert found[0].where.startswith(f"{file}:")
        assert int(found[0].where.rpartition(":")[2]) >= line
        assert found[0].message.startswith("must be ")
        if math.isfinite(wrong) and isinstance(value, kind):
            assert found[0].hint == why


def _with(path: str, value: object) -> dict[str, Any]:
    made: dict[str, Any] = {key: dict(each) if isinstance(each, dict) else each for key, each in VALID.items()}
    *sections, key = path.split(".")
    here = made
    for section in sections:
        here = here.setdefault(section, {"files": {"a": "test"}} if section == "submission" else {})
    here[key] = value
    return made


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data.max_length", 1),
        ("retrain.batch_size", 10**12),
        ("retrain.gradient_accumulation", 10**6),
        ("retrain.steps", 10**12),
        ("search.epochs", 1e12),
        ("retrain.weights.learning_rate", 1e308),
        ("search.selection.learning_rate", 5000.0),
        ("model.revision", "../x"),
        ("data.revision", "a/../../x"),
        ("data.hub", "../x"),
        ("name", "a" * 300),
        ("model.name", "a\x00b"),
        ("data.label", "a\x1b[31m"),
        ("description", "a\x1b[31m"),
        ("description", "a" * 20_000),
        ("data.labels", ["a", "b\n"]),
        ("data.config", "\ud800"),
    ],
)
def test_what_cannot_be_meant_is_refused(path: str, value: object) -> None:
    made = _with(path, value)
    with pytest.raises(ValueError, match=path.split(".")[-1]):
        Recipe.model_validate(made)


@pytest.mark.parametrize(
    "text",
    [
        "model: {name: meta/llama-70b, revision: refs/convert/parquet}",
        "retrain: {steps: 5000000, batch_size: 4096, gradient_accumulation: 512}",
        "search: {rank: 512, lora_alpha: 1024, weights: {learning_rate: 1e-6, weight_decay: 0.1}}",
        "eval: {generation: {beams: 100, max_new_tokens: 32768}}",
        "data: {hub: a/b, max_length: 131072, limits: {train: 100000000}}",
    ],
)
def test_large_models_and_long_trainings_are_within_the_ranges(text: str) -> None:
    Recipe.model_validate({**VALID, **values(text)})


def test_any_recipe_that_is_dumped_reads_back_equal() -> None:
    draw = random.Random(7)
    for _ in range(60):
        made = VALID
        for path, kind, rules, _why in draw.sample(LEAVES, 12):
            made = _drawn(made, path, kind, rules, draw)
        recipe = Recipe.model_validate(made)
        assert Recipe.model_validate(values(dump_recipe(recipe))) == recipe


def _drawn(made: dict[str, Any], path: str, kind: type, rules: list[Any], draw: random.Random) -> dict[str, Any]:
    """The recipe with a random value at a path, or as it is where none is allowed there."""
    low, high = bounds(rules) if kind in (int, float) else (0.0, 0.0)
    value: Any = {
        int: lambda: draw.choice([int(low), int(high), draw.randint(int(low), int(high))]),
        float: lambda: low + (high - low) * draw.choice([0.5, draw.random(), 10 ** -draw.uniform(1, 15)]),
        bool: lambda: draw.random() < 0.5,
        str: lambda: draw.choice(
            ["no", "010", "1:30", "1e-3", "null", "2001-01-01", "x: y", "#x", "é “”", "0x1F", "a" * 99]
        ),
    }[kind]()
    merged = _merge(made, path, value)
    try:
        Recipe.model_validate(merged)
    except ValueError:
        return made
    return merged


def _merge(made: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    head, _, rest = path.partition(".")
    inner = made.get(head)
    return {**made, head: _merge(inner if isinstance(inner, dict) else {}, rest, value) if rest else value}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0-99999999999", "whole numbers and ranges"),
        ("9" * 5000, "whole numbers and ranges"),
        ("4294967296", "a seed is at most 4294967295"),
        ("0-4294967295", f"at most {MAX_SEEDS} seeds"),
        (f"0-{MAX_SEEDS - 1},5000-5001", f"at most {MAX_SEEDS} seeds"),
        ("٣", "whole numbers and ranges"),
    ],
)
def test_seeds_have_bounds(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        parse_seeds(text)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("rates", ["1e-4,1e308", "1e-4,101", "1e-4,nan", "1e-4,inf", "1e-4," + "9" * 5000])
def test_tuned_rates_have_the_bounds_of_a_recipes(rates: str) -> None:
    with pytest.raises(UserError, match="above 0 and at most 100") as error:
        parse_tune(f"learning_rate={rates}")
    assert len(str(error.value)) < 300


def test_a_grid_has_a_bound() -> None:
    with pytest.raises(UserError, match=f"at most {MAX_GRID} rates"):
        parse_tune("learning_rate=" + ",".join(str(n / 1000) for n in range(1, MAX_GRID + 2)))
