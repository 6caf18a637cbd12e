"""Measured rises of the loss, each measured once: ``search/rises.json`` of a run.

| key | what |
|---|---|
| format, identity | of the file; of the search that the rises belong to |
| examples | how many training examples they were measured on |
| losses | the loss with all components, by what the components are: singular components, or pairs of columns |
| rises | the rise by what is kept, under a hash of it |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from autolora.allocation.rises import LossRises, Rises, checked_gain
from autolora.console import warn
from autolora.errors import UserError
from autolora.files import read_state, write_state

FORMAT = 2  # the first says no SHA-256


class RisesFile:
    """What has been measured of a search.

    Args:
        path: The JSON file, which need not be there; one of another search or format is begun anew.
        identity: Of the search.
    """

    def __init__(self, path: Path, identity: str | None) -> None:
        self.path, self.write = path, True  # of several processes one writes
        self.content: dict[str, Any] = {
            "format": FORMAT,
            "identity": identity,
            "examples": None,
            "losses": {},
            "rises": {},
        }
        found = self._read() if path.exists() else {}
        known = found.keys() == self.content.keys() and found["format"] in range(1, FORMAT + 1)
        if known and found["identity"] == identity:
            self.content = {**found, "format": FORMAT}

    def _read(self) -> dict[str, Any]:
        try:
            return read_state(self.path, since=FORMAT)
        except UserError as error:
            raise UserError(f"{error}; put it back, or remove it to measure anew with --measure") from error

    @property
    def examples(self) -> int | None:
        """How many examples were measured on; None where nothing was."""
        found: int | None = self.content["examples"]
        return found

    def save(self) -> None:
        """Write it; where that is not allowed, it is said, and what was measured is of use this once."""
        if not self.write:
            return
        try:
            write_state(self.path, self.content)
        except OSError as error:
            warn(f"{self.path} cannot be written, so what was measured is not kept: {error}")


class StoredRises(LossRises):
    """Rises that are in the file, or are measured and put into it.

    Args:
        file: Of the search.
        basis: What the components are: "components" or "pairs".
        layers: Full names of the layers that have some.
        measure: Gives what measures, and the number of examples; called when the first rise is not in the file. None:
            such a rise is refused.
    """

    def __init__(
        self,
        file: RisesFile,
        basis: str,
        layers: Sequence[str],
        measure: Callable[[], tuple[Rises, int]] | None,
    ) -> None:
        self.file, self.basis, self.layers, self.measure = file, basis, layers, measure

    def known(self, kept: Mapping[str, Sequence[int]]) -> float | None:
        """The rise, where it is in the file.

        Args:
            kept: Indices of the components that stay, by layer.
        """
        found: float | None = self.file.content["rises"].get(self._key(kept))
        return found

    def __call__(self, kept: Mapping[str, Sequence[int]]) -> float:
        """The rise, in the loss's own units.

        Args:
            kept: Indices of the components that stay, by layer.

        Raises:
            UserError: It is not in the file and is not to be measured.
            RunError: It is not finite.
        """
        if (found := self.known(kept)) is not None:
            return found
        rise = self._measured(kept)
        self.file.content["rises"][self._key(kept)] = rise
        self.file.save()
        return rise

    def gain(self) -> float:
        """What the LoRA is worth: the rise without any of it.

        Raises:
            UserError: As `__call__`; or the loss is no higher then.
        """
        rise = self(self._nothing)
        return checked_gain(rise, self.file.content["losses"][self.basis])

    def known_gain(self) -> float | None:
        """The gain, where it is in the file and is one."""
        rise = self.known(self._nothing)
        return rise if rise is not None and rise > 0 else None

    @property
    def _nothing(self) -> dict[str, tuple[int, ...]]:
        return dict.fromkeys(self.layers, ())

    @cached_property
    def _measured(self) -> Rises:
        if self.measure is None:
            raise UserError(
                "the rise of the loss has not been measured there yet, which has to be asked for: --measure, or "
                "measure=True"
            )
        rises, examples = self.measure()
        self.file.content["examples"] = examples
        self.file.content["losses"][self.basis] = rises.now
        return rises

    def _key(self, kept: Mapping[str, Sequence[int]]) -> str:
        text = json.dumps([self.basis, {name: list(each) for name, each in kept.items()}], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
