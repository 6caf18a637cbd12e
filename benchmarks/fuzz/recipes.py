"""Mutations of the shipped recipes: each is refused with exit code 2, or its dump reads back as the same recipe."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import yaml

from benchmarks.fuzz.cases import Case, Ended, Outcome, command, describe, ended
from benchmarks.fuzz.mutate import bytes_of, tree, yaml_lines

FILE = "recipe.yaml"


class Recipes:
    """See the module."""

    def prepare(self, base: Path) -> None:
        base.mkdir(parents=True, exist_ok=True)

    def run(self, case: Case, base: Path, scratch: Path, *, debug: bool = False) -> Outcome:
        count = self._write(case, scratch / FILE)
        return self._check(scratch / FILE, count, debug=debug)

    def keep(self, case: Case, base: Path, folder: Path) -> None:
        self._write(case, folder / FILE)

    def replay(self, folder: Path, base: Path, scratch: Path) -> Outcome:
        shutil.copyfile(folder / FILE, scratch / FILE)
        return self._check(scratch / FILE, 0, debug=True)

    def _write(self, case: Case, path: Path) -> int:
        """The mutated recipe; how many mutations it has had."""
        rng = case.rng("recipe")
        text: str | bytes = _text(rng.choice(_shipped()))
        count = rng.choice([1, 1, 1, 2, 2, 3, 5])
        for _, each in case.mutations(count):
            text = _mutated(text, each)
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        return count

    def _check(self, path: Path, count: int, *, debug: bool) -> Outcome:
        found = command("recipes", "validate", path, debug=debug)
        if outcome := found.finding():
            return Outcome("finding", f"validate: {outcome.what}", outcome.detail, count)
        if found.code == 2:
            return Outcome("refused", mutations=count)
        made = ended(lambda: _check_again(path))
        if made.code or made.err:
            return Outcome("finding", f"accepted, but {_first(made)}", f"{made.err}\n{made.trace}", count)
        return Outcome("right", mutations=count)


def _first(made: Ended) -> str:
    return made.trace.partition("\n")[0] or made.err.partition(":")[2].strip()[:100]


def _check_again(path: Path) -> None:
    """Of an accepted recipe: what it says is what it is, and its dump says the same.

    Raises:
        AssertionError: It is not.
    """
    from autolora.experiment.preflight import check_recipe, load_recipe
    from autolora.recipe.load import dump_recipe

    recipe = load_recipe(path)
    check_recipe(recipe)
    dumped = path.with_name("dumped.yaml")
    dumped.write_text(dump_recipe(recipe), encoding="utf-8")
    again = load_recipe(dumped)
    assert again == recipe, f"the dump reads back as {describe(again.model_dump(mode='json'))}"
    _check_numbers(yaml.safe_load(path.read_bytes()), recipe.model_dump(mode="json"), "")


def _check_numbers(said: Any, read: Any, path: str) -> None:
    """Every number that the file says is there with its value."""
    if isinstance(said, dict) and isinstance(read, dict):
        for key, value in said.items():
            _check_numbers(value, read.get(key), f"{path}.{key}")
    elif isinstance(said, bool | int | float) and isinstance(read, bool | int | float):
        assert said == read, f"{path[1:]} is {read!r} where the file says {said!r}"


@cache
def _shipped() -> tuple[Path, ...]:
    from autolora.recipe.shipped import shipped

    return tuple(shipped().values())


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def _names() -> tuple[str, ...]:
    from autolora.recipe.messages import dotted_names

    return tuple(dotted_names())


def _mutated(text: str | bytes, rng: Random) -> str | bytes:
    kind = rng.random()
    if kind < 0.1 or isinstance(text, bytes):
        return bytes_of(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"), rng)
    if kind < 0.4:
        return yaml_lines(text, rng)
    try:
        values = yaml.safe_load(text) if len(text) < 20_000 and "&a" not in text else None
    except (yaml.YAMLError, ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        return bytes_of(text.encode("utf-8", "surrogatepass"), rng)
    if kind < 0.6:
        _set(values, rng.choice(_names()).split("."), rng)
    else:
        values = tree(values, rng, lambda: rng.choice(_names()).rpartition(".")[2])
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _set(values: dict[str, Any], path: list[str], rng: Random) -> None:
    """A field that there is, at its place, to something."""
    from benchmarks.fuzz.mutate import value_of

    *sections, last = path
    for name in sections:
        inner = values.setdefault(name, {})
        if not isinstance(inner, dict):
            return
        values = inner
    values[last] = value_of(rng)
