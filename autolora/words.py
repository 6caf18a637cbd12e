"""Hints for a mistyped name: ``did_you_mean("quickstrat", ["quickstart"])`` gives ``did you mean 'quickstart'?``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """A hint at the nearest of the choices, or ""."""
    near = difflib.get_close_matches(name, list(choices), 1)
    return f"did you mean {near[0]!r}?" if near else ""
