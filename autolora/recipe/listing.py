"""The shipped recipes as a list: ``listed()``, and ``groups(…)`` by folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from autolora.recipe.plain_yaml import values
from autolora.recipe.shipped import shipped


@dataclass(frozen=True)
class Listed:
    """One recipe.

    Args:
        name: As commands take it.
        task: Its task family.
        model: Its model, without the owner's name on the hub.
        needs: Where its data comes from: the hub, local files, or nowhere, as it makes it itself.
        description: In a few words.
    """

    name: str
    task: str
    model: str
    needs: Literal["hub", "local", "nothing"]
    description: str


def listed() -> list[Listed]:
    """All of them, by name."""
    return [_one(name, values(path.read_text(encoding="utf-8"))) for name, path in shipped().items()]


def groups(recipes: Sequence[Listed]) -> Mapping[str, list[Listed]]:
    """By folder, those without one first.

    Args:
        recipes: In order.
    """
    found: dict[str, list[Listed]] = {}
    for each in sorted(recipes, key=lambda each: each.name.rpartition("/")[::2]):
        found.setdefault(each.name.rpartition("/")[0] or "to begin with", []).append(each)
    return found


def _one(name: str, found: Mapping[str, Any]) -> Listed:
    data = found["data"]
    needs: Literal["hub", "local", "nothing"] = "hub" if data.get("hub") else "local"
    if data.get("generated"):
        needs = "nothing"
    model = str(found["model"]["name"]).rpartition("/")[2].removeprefix("bundled:")
    return Listed(name, found["task"], model, needs, found.get("description", ""))
