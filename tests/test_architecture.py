"""The rooms of the package and the one way in which imports between them point: downwards.

The drawing is in docs/architecture.md, which must list the same rooms in the same order.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import autolora

PACKAGE = Path(autolora.__file__).parent
ROOMS = (  # from the ground up: a room imports from those before it only
    "errors",
    "causes",
    "programs",
    "words",
    "safe",
    "files",
    "console",
    "tables",
    "registry",
    "recipe",
    "training",
    "metrics",
    "lora",
    "planted",
    "model",
    "plots",
    "data",
    "tasks",
    "allocation",
    "adapters",
    "bilevel",
    "runs",
    "trackers",
    "evaluation",
    "context",
    "methods",
    "cards",
    "experiment",
    "integrations",
    "export",
    "comparison",
    "report",
    "doctor",
    "cli",
    "__main__",
)
FILES = sorted(PACKAGE.rglob("*.py"))


def _room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(source: str) -> Iterator[tuple[str, int]]:
    """What a module imports of the package at run time, wherever in it, and the line; imports for types don't count.

    ``from autolora.data import load`` may mean the room or a module in it: both are given.
    """
    yield from _in_block(ast.parse(source).body)


def _in_block(nodes: list[ast.stmt]) -> Iterator[tuple[str, int]]:
    for node in nodes:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _in_block(node.orelse)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names if alias.name.startswith("autolora."))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "autolora" or (node.module or "").startswith("autolora."):
                yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        else:
            for field in ("body", "orelse", "finalbody"):
                yield from _in_block(getattr(node, field, []))
            for handler in [*getattr(node, "handlers", []), *getattr(node, "cases", [])]:
                yield from _in_block(handler.body)


def imported_rooms(source: str) -> list[tuple[str, int]]:
    """The rooms that a module imports at run time, and the lines."""
    found = [(name.split(".")[1], line) for name, line in imported_modules(source)]
    return [(room, line) for room, line in found if not room.startswith("__version")]


def test_every_room_has_its_place() -> None:
    found = {_room(file) for file in FILES} - {"__init__", "_recipes"}
    assert found == set(ROOMS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_imports_point_down(file: Path) -> None:
    room = _room(file)
    above = ROOMS[ROOMS.index(room) + 1 :] if room in ROOMS else ROOMS  # the package itself imports nothing
    found = list(imported_rooms(file.read_text(encoding="utf-8")))
    assert not [f"line {line}: {other}" for other, line in found if other in above and other != room]


def test_no_two_files_import_each_other() -> None:
    names = {".".join(["autolora", *file.relative_to(PACKAGE).with_suffix("").parts]): file for file in FILES}
    edges = {name: set(_files(file, names)) - {name} for name, file in names.items()}
    assert not sorted((a, b) for a, found in edges.items() for b in found if a < b and a in edges[b])


def _files(file: Path, names: dict[str, Path]) -> Iterator[str]:
    for name, _ in imported_modules(file.read_text(encoding="utf-8")):
        yield from (each for each in (name, name.rpartition(".")[0]) if each in names)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import autolora.cli", ["cli"]),
        ("from autolora import tables, __version__", ["tables"]),
        ("def f():\n    if x:\n        from autolora.report.html import page", ["report"]),
        ("try:\n    pass\nexcept E:\n    import autolora.data.load", ["data"]),
        ("if TYPE_CHECKING:\n    from autolora.cli import main\nelse:\n    from autolora.tasks import base", ["tasks"]),
        ("with a:\n    from autolora.files import write_json", ["files"]),
        ("import torch\nfrom os import path", []),
    ],
)
def test_an_import_is_found_wherever_it_stands(source: str, found: list[str]) -> None:
    assert [room for room, _ in imported_rooms(source)] == found
