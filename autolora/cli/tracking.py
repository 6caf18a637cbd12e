"""``--track``: who looks on while a command works, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from autolora.console import warn
from autolora.runs.store import Run


@contextmanager
def tracked(run: Run, names: Sequence[str]) -> Iterator[None]:
    """Inside, trackers follow a run; where each writes is said on standard error.

    Args:
        run: The run.
        names: Of `autolora.trackers.names.parse_trackers`.
    """
    if not names:
        yield
        return
    from autolora.trackers.follow import following

    with following(run, names, say=warn):
        yield
