"""What is said about autolora in several files is the same in all."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml

import autolora
from tests.packaging.support import REPOSITORY

PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = dict(
    line.split("==")
    for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_version_is_one_and_the_changelog_has_it() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["version"] == autolora.__version__ == citation["version"]
    assert f"## [{autolora.__version__}]" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_licence_is_one() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["license"] == citation["license"] == "Apache-2.0"
    text = (REPOSITORY / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0" in text


def test_the_paper_is_cited() -> None:
    (paper,) = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Zhang", "Qiang", "Somayajula", "Xie"]
    assert paper["url"].endswith("2403.09113")


@pytest.mark.parametrize("requirement", [*PROJECT["dependencies"], *EXTRAS["bundled"], *EXTRAS["dev"]])
def test_a_dependency_has_a_lower_bound_and_a_pin_that_keeps_it(requirement: str) -> None:
    match = re.fullmatch(r"([\w-]+)(?:>=|==)([\d.]+)", requirement)
    assert match, f"{requirement}: give the lowest version that works"
    pins = {normal(name): pin for name, pin in PINS.items()}
    assert numbers(pins[normal(match[1])]) >= numbers(match[2])


def numbers(version: str) -> tuple[int, ...]:
    """A release's version, to be compared."""
    return tuple(map(int, version.split(".")))
