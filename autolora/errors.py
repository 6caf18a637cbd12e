"""How a command ends that does not end well, and the errors that say so.

`UserError`: the user's to mend. `RunError`: the run could not go on. Both are one clear message, and no traceback
(--debug adds it). Any other exception is a fault of ours, or what `autolora.causes` makes one of the two of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# Exit codes: the user's to mend; the run failed (diverged, out of memory; a comparison: some of its trials); our own
# faults; Ctrl-C and SIGTERM.
FAULT, FAILED, BUG, CANCELLED = 2, 3, 1, 130


class UserError(Exception):
    """Something in the input is wrong; the message says the rule, the value, where, and what to do."""


class UnreachableError(UserError):
    """What would have to be fetched cannot be, here and now."""


class RunError(Exception):
    """A run cannot go on, by what came of it; the message says at which step, what was found, and what to try."""


def keep(error: BaseException, path: Path) -> None:
    """Note on an exception the file that its traceback has been written to.

    Args:
        error: It.
        path: A run's status.json.
    """
    error.__dict__["kept_in"] = path


def kept_in(error: BaseException) -> Path | None:
    """The file that an exception's traceback is in; None where it is in none.

    Args:
        error: It.
    """
    return error.__dict__.get("kept_in")


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


Found = Iterator[tuple[str, str, str]]
"""Of faults: the dotted field, what is wrong with it, and what to do."""


def faults_of(found: Iterable[tuple[str, str, str]], where: Callable[[str], str]) -> list[Fault]:
    """What was found, each at its place.

    Args:
        found: By field.
        where: Gives the place of a dotted field.
    """
    return [Fault(where(field), field, message, hint) for field, message, hint in found]


class RecipeError(UserError):
    """All faults of one recipe, together."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))
