"""Whether runs that are reported together are of one recipe: ``alike = Alike()``, then ``alike(run, "glue/cola")``.

A run may have been trained or evaluated anew with other settings since it was compared, and runs of a folder need never
have been compared at all; the name of the recipe alone says nothing of that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autolora.comparison.keys import settings_key
from autolora.comparison.same_base import OneBase
from autolora.errors import UserError
from autolora.runs.store import Run


class Alike:
    """Remembers the first run of each group."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[Path, str]] = {}
        self._base = OneBase()

    def __call__(self, run: Run, group: str) -> None:
        """Make sure that a run has the settings of its group's first, but for method and seed.

        Args:
            run: Any.
            group: Of runs that stand in one table: the recipe's name; in a sweep, with the point.

        Raises:
            UserError: It has others, or was begun on another pretrained model; the message has the first difference.
        """
        settings = settings_key(run.recipe)
        path, known = self._first.setdefault(group, (run.path, settings))
        if known != settings:
            field, one, other = next(_differences(json.loads(known), json.loads(settings)))
            raise UserError(
                f"{path} and {run.path} cannot stand in one table: their {field} is {one} and {other}; "
                "report them apart, or run autolora compare again, which makes what is missing"
            )
        self._base(run.path, group)


def _differences(one: Any, other: Any, field: str = "") -> Iterator[tuple[str, str, str]]:
    """The dotted fields that differ, with both values."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in dict.fromkeys((*one, *other)):
            yield from _differences(one.get(name), other.get(name), f"{field}.{name}".lstrip("."))
    elif one != other:
        yield field, json.dumps(one), json.dumps(other)
