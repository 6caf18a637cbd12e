"""Trials on machines that do not see the runs' folder: what one needs is carried there, and its run brought back.

The other machine gets the run as far as it has come, and the runs that it builds on or takes its search over from, in a
temporary folder of its own (`run_carried`). While it is at it, what changes is sent by a `Post`, and written into the
run's folder here by `CarriedJob`: a trial whose machine dies goes on elsewhere from the last checkpoint that came.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from typing_extensions import override

from autolora.comparison.carried import Parcel, Sender, unpack, whole
from autolora.comparison.executor import Ending, Job, Task
from autolora.methods.sharing import offered
from autolora.runs.folders import TUNING
from autolora.runs.store import Run

EVERY = 10.0  # seconds between two looks at what has changed where a trial runs


class Post(Protocol):
    """The way from where one trial runs to where its run is kept."""

    def send(self, parcel: Parcel) -> None:
        """Send a parcel, without waiting for it to come.

        Args:
            parcel: What has changed.
        """

    def deliver(self, parcel: Parcel) -> None:
        """Send a parcel, and wait until it has come.

        Args:
            parcel: The last one.
        """

    def collect(self) -> list[Parcel]:
        """What has come since the last time, in the order in which it was sent; at the other end."""


class CarriedJob(Job):
    """A trial that another machine is at; its run here is ours meanwhile.

    Args:
        task: The trial.
        post: From there.
        begin: Begins it there, given what `needed` gives.

    Raises:
        RunError: Somebody else is at a run that it needs, or it cannot be begun.
    """

    def __init__(self, task: Task, post: Post, begin: Callable[[Mapping[str, Parcel], str], Job]) -> None:
        super().__init__(task)
        with ExitStack() as held:
            held.enter_context(task.run.hold())
            self.post, self.job = post, begin(*needed(task.run))
            self.held = held.pop_all()

    @override
    def ending(self) -> Ending | None:
        ended = self.job.ending()
        self._collect()
        if ended is not None:
            self.held.close()
        return ended

    @override
    def cancel(self) -> None:
        self.job.cancel()

    @override
    def join(self) -> None:
        self.job.join()
        self._collect()
        self.held.close()

    def _collect(self) -> None:
        parcels = self.post.collect()
        for parcel in parcels:
            unpack(parcel, self.run.path)
        if parcels:
            self.run.save_recipe()  # with a mark of this user: the one that came is of the other machine's


def needed(run: Run) -> tuple[dict[str, Parcel], str]:
    """What a run needs to go on elsewhere: itself, and the runs that it builds on or takes its search over from.

    Args:
        run: Nobody else is at it.

    Returns:
        The folders, by their paths from that of the recipe's runs; and the path of the run's.

    Raises:
        RunError: Somebody else is at one.
    """
    path = run.path.resolve()
    above = path.parent.parent if path.parent.name == TUNING else path.parent
    folders, found = [path], dict[str, Parcel]()
    while folders:
        folder = folders.pop()
        if (name := folder.relative_to(above).as_posix()) not in found:
            found[name], other = whole(folder), Run.open(folder)
            folders += [*other.base_runs(), *filter(None, [offered(other)])]
    return found, path.relative_to(above).as_posix()


def run_carried(
    parcels: Mapping[str, Parcel], name: str, post: Post, run: Callable[[Path], int], every: float = EVERY
) -> int:
    """A trial, to its end, in a temporary folder of this machine.

    Args:
        parcels: From `needed`.
        name: The run's folder among them.
        post: To where they come from.
        run: Runs the trial in a folder.
        every: Seconds between two looks at what has changed.

    Returns:
        What `run` does.
    """
    with tempfile.TemporaryDirectory(prefix="autolora-") as above:
        for each, parcel in parcels.items():
            unpack(parcel, Path(above) / each)
        sender = Sender(Path(above) / name, known=True)
        try:
            with _sending(sender, post, every):
                return run(Path(above) / name)
        finally:
            post.deliver(sender.parcel() or Parcel())


@contextmanager
def _sending(sender: Sender, post: Post, every: float) -> Iterator[None]:
    """Inside, what changes is sent on from time to time."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(every):
            parcel = sender.parcel()
            if parcel is not None:
                post.send(parcel)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
