"""Names to classes or functions, imported only when they are used.

A registry is a dict from a recipe's word to ``"module:attribute"``. Reading the words (to validate a recipe) imports
nothing heavy; `load` imports the one that was chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from autolora.errors import UserError


def load(registry: Mapping[str, str], name: str) -> Any:
    """The object registered under `name`. Raises UserError for a name that is not there."""
    if name not in registry:
        raise UserError(f"{name!r} is not one of: {', '.join(registry)}")
    module, _, attribute = registry[name].partition(":")
    return getattr(import_module(module), attribute)
