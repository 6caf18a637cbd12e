"""Errors that are the user's to mend: shown as one clear message, exit code 2, no traceback (except with --debug)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

FAULT, FAILED, CANCELLED = 2, 1, 130  # exit codes: the user's to mend, anything else, Ctrl-C and SIGTERM


class UserError(Exception):
    """Something in the input is wrong; the message says the rule, the value, where, and what to do."""


class UnreachableError(UserError):
    """What would have to be fetched cannot be, here and now."""


@dataclass(frozen=True)
class Fault:
    """One fault of a recipe.

    Args:
        where: File and line (``cola.yaml:12``), or the command-line option that the value came from.
        field: Dotted path of the field (``search.rank``), or "" for the file as a whole.
        message: The rule and the value that breaks it.
        hint: What to do, the nearest valid name for instance; may be empty.
    """

    where: str
    field: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        subject = f"{self.field}: " if self.field else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.where}: {subject}{self.message}{hint}"


class RecipeError(UserError):
    """All faults of one recipe, together."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))
