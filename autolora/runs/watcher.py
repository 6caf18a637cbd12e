"""Who looks on while a run runs, such as a tracker: told of what has been written, and with no say in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Watcher(Protocol):
    """Looks on; see `autolora.trackers.follow`. It raises nothing."""

    def logged(self, log: str, record: Mapping[str, object]) -> None:
        """Called after a record was added to a metric log.

        Args:
            log: The log's folder, from the run's: ``search``.
            record: With its "step".
        """

    def ended(self, stage: str) -> None:
        """Called when a stage has succeeded, and its files are there.

        Args:
            stage: search, retrain or eval.
        """
