"""What one probe found, and `probed`, which lets no probe end the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Args:
        what: It is about.
        state: ok; note: something that is not there, which is needed for some things only; wrong: autolora, or what it
            needs for everything, does not work so.
        text: What was found.
        remedy: What to do, where something can be done.
    """

    what: str
    state: State
    text: str
    remedy: str = ""

    def record(self) -> dict[str, str]:
        """JSON-able."""
        return {"what": self.what, "state": self.state, "found": self.text, "remedy": self.remedy}


Probe = Callable[[], Iterator[Finding]]


def probed(name: str, probe: Probe) -> list[Finding]:
    """What a probe finds; where it fails itself, what it has found until then and that.

    Args:
        name: Of the probe.
        probe: It.
    """
    found: list[Finding] = []
    try:
        found.extend(probe())
    except Exception as error:  # whatever a broken library raises when it is imported: that is what is looked for
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        found.append(Finding(name, "wrong", f"cannot be looked at: {said}"))
    return found
