"""What a stage shows while it works: a rich progress bar in a terminal, plain lines elsewhere. On standard error."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_EVERY = 10.0  # seconds between two plain lines


def hush() -> None:
    """Ignore warnings about names that transformers has renamed and PEFT still uses: nothing a user could do about."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def warn(message: str) -> None:
    """Say on standard error what is not as one would expect."""
    Console(stderr=True).print(message, markup=False, highlight=False, soft_wrap=True)


class StageProgress:
    """Steps, losses, throughput and time left of one stage; an `autolora.training.loop.Observer`.

    Args:
        title: What the stage is called.
        examples: How many examples a step processes, for the throughput.
        console: Where it is shown; None for standard error.
        show: False: nowhere.
    """

    def __init__(self, title: str, *, examples: int = 1, console: Console | None = None, show: bool = True) -> None:
        self.title, self.examples, self.show = title, examples, show
        self.console = console or Console(stderr=True)
        self.first = self.done = self.total = 0
        self.begun = self.last_line = time.monotonic()
        self.text = ""
        self.bar: Progress | None = None

    def __enter__(self) -> Self:
        if self.show and self.console.is_terminal:
            self.bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[losses]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self.console,
            )
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()

    def start(self, done: int, total: int) -> None:
        """Begin to count.

        Args:
            done: Steps that an earlier process has done.
            total: Number of steps in all.
        """
        self.first = self.done = done
        self.total = total
        self.begun = self.last_line = time.monotonic()
        if self.bar:
            self.bar.add_task(self.title, total=total, completed=done, losses="")
        elif self.show:
            self._line(f"{self.title}: step {done} of {total}")

    def step(self, done: int) -> None:
        """Show how far it is: in a terminal at every step, elsewhere every `PLAIN_EVERY` seconds.

        Args:
            done: Steps done, from 1.
        """
        self.done = done
        if self.bar:
            self.bar.update(self.bar.task_ids[0], completed=done, losses=self._status())
        elif self.show and (time.monotonic() - self.last_line > PLAIN_EVERY or done == self.total):
            self.last_line = time.monotonic()
            self._line(f"{self.title}: step {done} of {self.total}  {self._status()}  {self._left():.0f} s left")

    def losses(self, done: int, losses: Mapping[str, float]) -> None:
        """Show these from the next step on.

        Args:
            done: Steps done, from 1.
            losses: Means by name.
        """
        self.text = "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in losses.items())

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _rate(self) -> float:
        """Steps a second."""
        return (self.done - self.first) / max(time.monotonic() - self.begun, 1e-9)

    def _left(self) -> float:
        """Seconds."""
        return (self.total - self.done) / max(self._rate(), 1e-9)

    def _status(self) -> str:
        return f"{self.text}  {self._rate() * self.examples:.1f} examples/s".strip()
