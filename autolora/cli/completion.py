"""What a shell completes beside commands and options: recipes, runs, comparisons, methods, and fields of recipes.

Each function takes the beginning of a word and gives the words that go on from it. A completion that takes a second is
of no use: nothing here imports torch, and of runs only the folders' names are looked at. One that fails gives nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import wraps
from itertools import islice
from pathlib import Path

MOST = 200  # words
RUNS = Path("runs")

Complete = Callable[[str], list[str]]


def _safely(find: Callable[[str], Iterable[str]]) -> Complete:
    """At most so many words, and none where something is wrong: a shell is no place for a message."""

    @wraps(find)
    def complete(incomplete: str) -> list[str]:
        found: dict[str, None] = {}
        with suppress(Exception):
            for word in islice(find(incomplete), MOST):
                found[word] = None
        return [*found]

    return complete


@_safely
def recipes(incomplete: str) -> Iterable[str]:
    """Shipped recipes by name, and recipe files and folders on the way to them."""
    from autolora.recipe.shipped import shipped

    yield from (name for name in shipped() if name.startswith(incomplete))
    yield from _files(incomplete)


@_safely
def runs(incomplete: str) -> Iterable[str]:
    """Folders of runs: the newest first, then folders on the way to others."""
    from autolora.runs.folders import TUNING

    there = (path.parent for path in _below(RUNS, "recipe.yaml") if path.parent.parent.name != TUNING)
    found = sorted(there, key=lambda path: path.name, reverse=True)
    yield from (str(path) for path in found if str(path).startswith(incomplete))
    yield from _folders(incomplete)


@_safely
def targets(incomplete: str) -> Iterable[str]:
    """A run or a recipe."""
    yield from recipes(incomplete)
    yield from runs(incomplete)


@_safely
def reported(incomplete: str) -> Iterable[str]:
    """Folders of comparisons, then of runs."""
    from autolora.runs.folders import COMPARISONS, TRIALS

    found = sorted(path.parent for path in _below(RUNS / COMPARISONS, TRIALS))
    yield from (str(path) for path in found if str(path).startswith(incomplete))
    yield from runs(incomplete)


@_safely
def methods(incomplete: str) -> Iterable[str]:
    """The last of a list of methods."""
    from autolora.registry import METHODS

    front, comma, last = incomplete.rpartition(",")
    given = {word.split(":")[0] for word in front.split(",")}
    yield from (f"{front}{comma}{name}" for name in METHODS if name.startswith(last) and name not in given)


@_safely
def fields(incomplete: str) -> Iterable[str]:
    """``search.rank=``, and the values where a field has few."""
    return _settings(incomplete, "")


@_safely
def varied(incomplete: str) -> Iterable[str]:
    """As `fields`, for lists of values."""
    name, equals, written = incomplete.partition("=")
    front, comma, last = written.rpartition(",")
    if not equals:
        return _settings(incomplete, "")
    return (f"{name}={front}{comma}{value}" for value in _values(name) if value.startswith(last))


def _settings(incomplete: str, front: str) -> Iterator[str]:
    from autolora.recipe.messages import dotted_names, section_at

    name, equals, written = incomplete.partition("=")
    if equals:
        yield from (f"{name}={value}" for value in _values(name) if value.startswith(written))
        return
    for field in dotted_names():
        if field.startswith(name) and section_at(field.split(".")) is None:
            yield f"{front}{field}="


def _values(field: str) -> list[str]:
    """Of a field that has few: names, words of a choice, true and false."""
    from autolora.recipe.json_schema import json_schema

    schema = json_schema()
    here = schema
    for part in field.split("."):
        here = here["properties"][part]
        reference = next((each["$ref"] for each in (here, *here.get("anyOf", [])) if "$ref" in each), None)
        if reference is not None:
            here = schema["$defs"][reference.rpartition("/")[2]]
    parts = (here, here.get("items", {}), *here.get("anyOf", []))
    found = [
        value for part in parts for value in (*part.get("enum", []), *([part["const"]] if "const" in part else []))
    ]
    if any(part.get("type") == "boolean" for part in parts):
        found += ["true", "false"]
    return [str(value) for value in found]


def _files(incomplete: str) -> Iterator[str]:
    """Recipe files below the folder that has been typed, and folders."""
    from autolora.recipe.document import SUFFIXES

    front, name = _split(incomplete)
    for path in sorted(Path(front or ".").iterdir()):
        if path.name.startswith(name) and not (path.name.startswith(".") and not name):
            if path.is_dir():
                yield f"{front}{path.name}/"
            elif path.suffix in SUFFIXES:
                yield f"{front}{path.name}"


def _folders(incomplete: str) -> Iterator[str]:
    front, name = _split(incomplete)
    for path in sorted(Path(front or ".").iterdir()):
        if path.is_dir() and path.name.startswith(name) and not (path.name.startswith(".") and not name):
            yield f"{front}{path.name}/"


def _split(incomplete: str) -> tuple[str, str]:
    front, slash, name = incomplete.rpartition("/")
    return f"{front}{slash}", name


def _below(root: Path, name: str, depth: int = 4) -> Iterator[Path]:
    """Files of a name some folders below another one."""
    for level in range(1, depth + 1):
        yield from root.glob("/".join([*["*"] * level, name]))
