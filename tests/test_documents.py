"""The documents say what is so: their Python runs, and their lists are the source's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from autolora import registry
from tests.test_architecture import ROOMS

ROOT = Path(__file__).resolve().parents[1]
FENCED = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)


def blocks(name: str) -> list[str]:
    """The Python of a document."""
    return FENCED.findall((ROOT / name).read_text(encoding="utf-8"))


@pytest.mark.usefixtures("minilm")
def test_the_python_page_runs_from_top_to_bottom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = blocks("docs/python-api.md")
    assert len(found) == 5
    names = {"folder": tmp_path, "__name__": "page"}  # the comparison is not begun; tests/test_api.py runs one
    for block in found:
        exec(compile(block, "docs/python-api.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("{'0': ")
    assert printed[1].startswith("matthews_correlation ")
    assert str(tmp_path / "quickstart") in printed[3]
    assert names["EXACT"].scores([1, 2], [1, 3])[0].value == 0.5  # type: ignore[attr-defined]


def test_the_groups_of_entry_points_are_named() -> None:
    text = (ROOT / "docs" / "python-api.md").read_text(encoding="utf-8")
    tables = [value for value in vars(registry).values() if isinstance(value, registry.Registry)]
    assert len(tables) == 7
    assert all(f"`{table.group}`" in text for table in tables)


def test_the_drawing_lists_the_rooms_in_their_order() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = text.partition("From the top:")[2].partition("`integrations`")[0]
    listed = re.findall(r"^    (\w+(?:, \w+)*)  ", drawing, re.M)
    rooms = [room for line in listed for room in line.split(", ")]
    assert rooms == [room for room in reversed(ROOMS) if room != "__main__"]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/equations.md", "docs/architecture.md"])
def test_files_that_a_document_names_are_there(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:autolora|tests|docs|recipes|benchmarks)/[\w./-]+)`", text))
    assert named or name == "docs/architecture.md"
    assert not [path for path in sorted(named) if not (ROOT / path).exists()]
