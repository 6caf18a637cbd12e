"""What is left of a split's conversations at `data.max_length`, and what is said of the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from autolora.console import warn
from autolora.errors import UserError

if TYPE_CHECKING:
    from autolora.training.batches import Example


@dataclass
class Cut:
    """The conversations of a split, after whole turns were taken from the ends of those that are too long.

    Args:
        rows: The split's.
        kept: The rows of which something is left.
        examples: What is left of them.
        turns: How many turns are gone, of all roles.
        dropped: How many conversations are.
        shortened: How many have lost turns and are there.
        thoughtless: In how many the chat template leaves out thoughts.
    """

    rows: Any
    kept: list[int] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    turns: int = 0
    dropped: int = 0
    shortened: int = 0
    thoughtless: int = 0

    def say(self, split: str, longest: int) -> None:
        """Say what is gone.

        Args:
            split: The rows' name.
            longest: `data.max_length`.

        Raises:
            UserError: Nothing is left.
        """
        count = len(self.kept) + self.dropped
        if not self.kept:
            raise UserError(
                f"data.max_length: {longest} tokens leave none of the assistant's turns in any of the {count} "
                f"conversations of split {split!r}; raise it"
            )
        if self.shortened or self.dropped:
            warn(
                f"split {split!r}: of {count} conversations {self.shortened} lose turns at their end and "
                f"{self.dropped} are dropped ({self.turns} turns in all), at data.max_length {longest}"
            )
        if self.thoughtless:
            warn(
                f"split {split!r}: in {self.thoughtless} of {count} conversations the chat template leaves out "
                "thoughts of the assistant's earlier turns, which are not learned"
            )
