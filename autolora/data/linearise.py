"""Structured inputs as one line of text, for generation: functions of a cell and of the place it is in.

``e2e("name[Alimentum], area[city centre]", …)`` gives ``name : Alimentum | area : city centre``, and
``triples(["Aarhus | leader | Jacob"], …)`` gives ``Aarhus : leader : Jacob``.
"""

from __future__ import annotations

import re
from typing import Any

from autolora.errors import UserError

_SLOT = re.compile(r"\s*([^\[\],]+?)\s*\[([^\]]*)\]\s*(?:,|$)")


def none(value: Any, where: str) -> str:
    """Text as it is."""
    if not isinstance(value, str) or not value.strip():
        hint = "; for lists of triples set data.linearise to triples" if isinstance(value, list) else ""
        raise UserError(f"{where} must be text that is not empty, got {str(value)[:80]!r}{hint}")
    return value.strip()


def e2e(value: Any, where: str) -> str:
    """A meaning representation of the E2E challenge: ``slot[value], slot[value]``."""
    text, slots, end = none(value, where), [], 0
    while end < len(text):
        found = _SLOT.match(text, end)
        if not found:
            raise UserError(f"{where} must be like name[Alimentum], area[city centre]; got {text[:120]!r}")
        slots.append(f"{found[1]} : {found[2].strip()}")
        end = found.end()
    return " | ".join(slots)


def triples(value: Any, where: str) -> str:
    """RDF triples, each ``subject | predicate | object``."""
    if not isinstance(value, list) or not value:
        raise UserError(f"{where} must be a list of triples, got {str(value)[:80]!r}")
    parts = [[part.strip() for part in str(triple).split(" | ")] for triple in value]
    for triple, part in zip(value, parts, strict=True):
        if len(part) != 3:
            raise UserError(f"{where}: a triple must be 'subject | predicate | object', got {triple!r}")
    return " | ".join(" : ".join(part) for part in parts)
