"""Where the trials of a comparison are run: an `Executor` begins them, and says how each ended.

What is begun when, whose a trial is, and what came of it is `autolora.comparison.execute`'s; here is only what differs
between the processes of one machine (`autolora.comparison.processes`) and a cluster (`autolora.comparison.ray_tasks`).
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass

from autolora.comparison.plan import Trial
from autolora.errors import UserError
from autolora.runs.store import Run
from autolora.trackers.follow import Tracking
from autolora.training.compute import Precision

LONGEST_END = 60.0  # seconds that a trial may take to end when told to


@dataclass(frozen=True)
class Resources:
    """What trials may take.

    Args:
        jobs: How many run at a time; None for one on this machine, for as many as a cluster has room for.
        gpus: Of each trial: 1, or a part of one that it shares with others; None for what there is.
        cpus: Threads of each trial; None for an equal share of the machine, for one on a cluster.

    Raises:
        UserError: A number is out of its range.
    """

    jobs: int | None = None
    gpus: float | None = None
    cpus: int | None = None

    def __post_init__(self) -> None:
        if self.gpus is not None and not (math.isfinite(self.gpus) and 0 < self.gpus <= 1):
            raise UserError(
                f"--gpus-per-cell: {self.gpus:g} is not above 0 and up to 1: a trial computes on one GPU, or shares it "
                "(0.5: two trials a GPU)"
            )
        if self.cpus is not None and self.cpus < 1:
            raise UserError(f"--cpus-per-cell: {self.cpus} is less than 1")


@dataclass(frozen=True)
class Task:
    """A trial that is to be run now.

    Args:
        trial: Of a comparison.
        run: Its run, which nobody else is at.
        precision: Of its passes.
        show: Show its progress.
        tracking: What follows it.
        told: What is doubtful about its data has been said, by an earlier trial of the recipe.
    """

    trial: Trial
    run: Run
    precision: Precision
    show: bool
    tracking: Tracking
    told: bool = False


@dataclass(frozen=True)
class Ending:
    """How what ran a trial ended.

    Args:
        clean: It came to its own end, all tidied.
        busy: Somebody else was at the run, and nothing was done.
        lost: What was lost with it, that is no fault of the trial's, which is gone on with; "" for nothing.
        reason: How it ended, for a run that came to say nothing of itself.
    """

    clean: bool = True
    busy: bool = False
    lost: str = ""
    reason: str = ""


class Job(ABC):
    """A trial that runs.

    Args:
        task: Which.
    """

    def __init__(self, task: Task) -> None:
        self.trial, self.run, self.begun = task.trial, task.run, time.monotonic()

    @abstractmethod
    def ending(self) -> Ending | None:
        """How it ended; None while it runs."""

    @abstractmethod
    def cancel(self) -> None:
        """Tell it to end, by the way of Ctrl-C."""

    @abstractmethod
    def join(self) -> None:
        """Wait for the end, but not for ever."""


class Executor(ABC):
    """Runs trials, several at a time."""

    losses = 1  # how often a trial is begun again that was lost

    @property
    @abstractmethod
    def size(self) -> int:
        """How many trials run at a time, as of now; at least 1."""

    @property
    def threads(self) -> int | None:
        """How many threads each trial may use; None for all that there are."""
        return None

    @abstractmethod
    def precision(self) -> Precision:
        """What passes are in where the recipe leaves it to the machine.

        Raises:
            UserError: Machines differ in it.
        """

    def check_tracking(self, tracking: Tracking) -> None:
        """Make sure that trials can be followed where they run.

        Args:
            tracking: What is to follow them.

        Raises:
            UserError: They cannot.
        """
        return

    @abstractmethod
    def start(self, task: Task) -> Job:
        """Begin a trial; there is room for it.

        Args:
            task: The trial.

        Raises:
            RunError: It cannot be begun.
        """

    @abstractmethod
    def wait(self, jobs: list[Job], longest: float) -> None:
        """Until one of them ends.

        Args:
            jobs: All that run; perhaps none.
            longest: Seconds after which to return in any case.
        """

    def close(self) -> None:
        """Give back what it holds; nothing runs any more."""
        return
