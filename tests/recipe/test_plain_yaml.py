"""YAML 1.2's core schema, what is refused beside it, and that what is dumped reads back equal."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from autolora.errors import RecipeError
from autolora.recipe import plain_yaml
from autolora.recipe.document import read_document
from autolora.recipe.plain_yaml import MAX_BYTES, MAX_DEPTH, MAX_REFUSED, dump, values

ALPHABET = [*"ab01 .:-+_'\"#&*!|>%@`{}[],?~=<\\/eExoyYnN\t\n", "\r", "\x00", "\x1b", "\x7f", "\x85", "\xa0", "é", "“"]
ALPHABET += ["\u2028", "\u2029", "\ufeff", "\ufffe", "\U0001f600", "null", "true", "no", "1e3", "<<", ": ", " #", "---"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("010", 10), ("0o10", 8), ("0x1F", 31), ("-7", -7), ("+7", 7), ("00", 0)),
        *(
            ("1e-3", 1e-3),
            ("1E3", 1e3),
            ("+1e+3", 1e3),
            (".5", 0.5),
            ("1.", 1.0),
            ("-.5e1", -5.0),
            ("-.inf", -float("inf")),
        ),
        *(("1:30", "1:30"), ("1:30.5", "1:30.5"), ("1_000", "1_000"), ("0b11", "0b11"), ("08", 8), ("1e", "1e")),
        *((word, word) for word in ("yes", "no", "on", "off", "Yes", "NO", "y", "n", "tRue", "nUll")),
        *(("true", True), ("False", False), ("TRUE", True), ("null", None), ("~", None), ("", None), ("NULL", None)),
        *(("2001-01-01", "2001-01-01"), ("2001-99-99", "2001-99-99"), ("2001-01-01 10:00:00", "2001-01-01 10:00:00")),
        *(("=", "="), ("'1'", "1"), ('"\\u0041"', "A"), ("[1, no]", [1, "no"]), ("{a: 010}", {"a": 10})),
        ("? a\n: b", {"a": "b"}),
    ],
)
def test_scalars_are_what_yaml_1_2_says(text: str, value: object) -> None:
    found = values(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: &x 2\n", 2, "&x: a recipe has no anchors"),
        ("a: 1\nb: *x\n", 2, "*x: a recipe has no aliases"),
        ("a: &x {b: *x, c: [*x]}\n", 1, "&x: a recipe has no anchors"),
        ("a:\n  <<: {b: 1}\n", 2, "a recipe has no merge keys"),
        ("a: 1\nb: !!set {x}\n", 2, "!!set: a recipe has no tags"),
        ("a: 1\nb: !!binary aGk=\n", 2, "!!binary: a recipe has no tags"),
        ("a: !!python/object:os.system x\n", 1, "!!python/object:os.system: a recipe has no tags"),
        ("a: !mine x\n", 1, "!mine: a recipe has no tags"),
        ("a: 1\nb: " + "9" * 5000, 2, "a whole number of 5000 digits, which no field takes"),
        ("a: 1\n3: x\n", 2, "a key must be text, got 3"),
        ("a: 1\n[b]: x\n", 2, "a key must be text, got a list"),
        ("a: 1\n? {b: c}\n: x\n", 2, "a key must be text, got a section"),
        ("a: 1\ntrue: x\n", 2, "a key must be text, got true"),
        ("a: 1\n~: x\n", 2, "a key must be text, got ~"),
        ("a: 1\nb: x\x00y\n", 2, "control character #x0000"),
        ("a: 1\nb: \x1b[31m\n", 2, "control character #x001b"),
        ("a: 1\nb: x\u2028y\n", 2, "control character #x2028"),
        ("a: 1\nb: x\x85y\n", 2, "control character #x0085"),
        ("a: 1\n--- \nb: 2\n", 2, "document"),
        ("a: " + "[" * (MAX_DEPTH + 1), 1, f"nested more than {MAX_DEPTH} deep"),
    ],
)
def test_what_recipes_have_no_use_for_is_refused_with_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(ValueError, match=rf"^line {line}: ") as error:
        values(text)
    assert said in str(error.value)
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as refused:
        read_document(path)
    assert refused.value.faults[0].where == f"{path}:{line}"
    assert said in str(refused.value)


def test_a_file_of_too_many_values_is_refused_where_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_yaml, "MAX_NODES", 10)
    assert len(values("a:\n" + " - x\n" * 7)["a"]) == 7
    with pytest.raises(ValueError, match="line 9: more than 10 values"):
        values("a:\n" + " - x\n" * 8)


def test_a_bomb_of_aliases_is_refused_at_once(tmp_path: Path) -> None:
    rows = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    rows += [f"{c}: &{c} [{', '.join([f'*{b}'] * 9)}]" for b, c in zip("abcdefghijk", "bcdefghijkl", strict=True)]
    (path := tmp_path / "bomb.yaml").write_text("\n".join(rows))
    begun = time.monotonic()
    with pytest.raises(RecipeError) as error:
        read_document(path)
    assert time.monotonic() - begun < 5
    said = {fault.where for fault in error.value.faults}
    assert len(error.value.faults) <= MAX_REFUSED
    assert said <= {f"{path}:{n}" for n in range(1, len(rows) + 1)}


def test_a_file_that_is_too_large_for_a_recipe_is_not_read(tmp_path: Path) -> None:
    (path := tmp_path / "large.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(RecipeError, match=f"more than {MAX_BYTES} bytes"):
        read_document(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_than_utf8_are_refused(tmp_path: Path, encoding: str) -> None:
    (path := tmp_path / "r.yaml").write_bytes("task: x\n".encode(encoding))
    with pytest.raises(RecipeError, match=r"r\.yaml:1: .*(not UTF-8 text|control character #x0000)"):
        read_document(path)


def test_whatever_is_dumped_reads_back_equal() -> None:
    draw = random.Random(16)
    for _ in range(400):
        made = {_text(draw): _value(draw, 3) for _ in range(4)}
        assert values(dump(made)) == made, repr(made)


def test_a_dump_has_no_aliases_and_quotes_what_older_yaml_takes_for_something_else() -> None:
    shared = ["x"]
    assert dump({"a": shared, "b": shared}) == "a:\n- x\nb:\n- x\n"
    text = dump({"a": ["no", "1:30", "010", "1e-3", "2001-01-01", "0o7", "1_000", "<<", "="]})
    assert text.count("'") == 18


def _value(draw: random.Random, depth: int) -> Any:
    kind = draw.randrange(8 if depth else 6)
    if kind == 6:
        return [_value(draw, depth - 1) for _ in range(draw.randrange(4))]
    if kind == 7:
        return {_text(draw): _value(draw, depth - 1) for _ in range(draw.randrange(4))}
    number = draw.choice([draw.random(), draw.random() * 10.0 ** draw.randrange(-300, 300), 0.0, 1e16, 5e-324])
    return [None, draw.random() < 0.5, draw.randrange(-(10**18), 10**18), number, _text(draw), _text(draw)][kind]


def _text(draw: random.Random) -> str:
    return "".join(draw.choice(ALPHABET) for _ in range(draw.choice([0, 1, 1, 2, 3, 5, 8, 150])))
