"""Trackers follow a run: ``with following(run, ["tensorboard"]): run_stages(run, context)``.

They are sent what its metric logs hold, as it is written, and what its files hold when a stage has ended. A tracker is
an observer: random numbers are as they were after every call of it, and what goes wrong with it is said once, and ends
the tracking of this process and nothing else. What could not be sent is sent by the next command with the same
trackers, ``--resume`` for instance: the logs are the truth, and `autolora.trackers.journal` knows what was sent.

A stage that was begun anew with other settings logs other numbers: a new tracked run is begun for it then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from autolora.registry import TRACKERS
from autolora.runs.store import Run
from autolora.trackers.base import About, Ended, without_secrets
from autolora.trackers.follower import Follower, Group
from autolora.trackers.names import check_trackers


@contextmanager
def following(
    run: Run, names: Sequence[str], group: Group | None = None, say: Callable[[str], None] = lambda text: None
) -> Iterator[None]:
    """Inside, trackers follow a run; what of it they have not been sent yet, they are sent first.

    Args:
        run: The run, of whatever state; only its main process is followed.
        names: Of the trackers.
        group: Of a comparison's trial.
        say: Told where each tracker writes.

    Raises:
        UserError: As `check_trackers`.
    """
    check_trackers(names)
    if not names or not run.main:
        yield
        return
    followers = Followers([Follower(run, name, group) for name in names])
    followers.begin(say)
    run.watcher = followers
    ended: Ended = "cancelled"  # by whatever is no error: Ctrl-C, a signal
    try:
        yield
        ended = "success"
    except Exception:
        ended = "failed"
        raise
    finally:
        run.watcher = None
        followers.close(ended)


@dataclass(frozen=True)
class Tracking:
    """How the trials of a comparison are tracked; it goes to their processes.

    Args:
        names: Of trackers.
        group: The comparison.
    """

    names: tuple[str, ...] = ()
    group: Group | None = None

    def places(self) -> Iterator[tuple[str, str]]:
        """Each tracker, and where it writes, as it may be shown."""
        for name in self.names if self.group else ():
            assert self.group is not None
            made = TRACKERS.load(name)(About("", "", self.group.name, {}, self.group.folder.absolute()))
            yield name, without_secrets(made.place())


UNTRACKED = Tracking()


class Followers:
    """Several trackers; an `autolora.runs.watcher.Watcher`.

    Args:
        each: Of one run.
    """

    def __init__(self, each: Sequence[Follower]) -> None:
        self.each = each

    def begin(self, say: Callable[[str], None]) -> None:
        """Open them, and send what there is of the run.

        Args:
            say: Told where each writes.
        """
        for follower in self.each:
            follower.begin(say)

    def logged(self, log: str, record: Mapping[str, object]) -> None:
        """See `Watcher`."""
        for follower in self.each:
            follower.attempt(partial(follower.record, log, record))

    def ended(self, stage: str) -> None:
        """See `Watcher`."""
        for follower in self.each:
            follower.attempt(partial(follower.stage, stage))

    def close(self, ended: Ended) -> None:
        """End them for this process.

        Args:
            ended: How the run has ended for it.
        """
        for follower in self.each:
            follower.attempt(partial(follower.close, ended))
