"""The terminal: whatever a command prints goes through here, so that no text of others acts on it.

``screen()`` and ``screen(stderr=True)`` are rich consoles, ``say(text)`` and ``warn(text)`` a line on standard output
and on standard error, ``document(text)`` the content of a file. What a stage shows while it works, `StageProgress`, is
a progress bar in a terminal and plain lines elsewhere, on standard error.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from autolora import safe
from autolora.files import json_text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.progress import Progress
    from rich.segment import Segment

PLAIN_EVERY = 10.0  # seconds between two plain lines
TAB = 8  # columns


def hush() -> None:
    """Ignore warnings about names that transformers has renamed and PEFT still uses: nothing a user could do about."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


@cache
def _screens() -> type[Console]:
    """The class of our screens. A line of text needs no rich, and rich takes longer to import than most commands."""
    from rich.console import Console
    from rich.segment import Segment

    class Screen(Console):
        """A rich console that sends no control characters but rich's own: texts have them written out."""

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(safe.terminal(segment.text), segment.style)

    return Screen


def screen(*, stderr: bool = False) -> Console:
    """Standard output or standard error, for what has tables or colours in it.

    Args:
        stderr: Which of the two.
    """
    _take_all_characters()
    return _screens()(stderr=stderr)


def _take_all_characters() -> None:
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")  # what the stream's encoding lacks is written out


def line(console: Console, text: str) -> None:
    """Text as it is on one of our screens: no markup, no names of emoji, no wrapping.

    Args:
        console: Of `screen`.
        text: One line or several.
    """
    console.print(safe.terminal(text), markup=False, emoji=False, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A line on standard output."""
    _take_all_characters()
    _put(sys.stdout, text)


def warn(text: str) -> None:
    """A line on standard error, if that is not closed: what went wrong, or is not as one would expect."""
    with suppress(OSError, ValueError):
        _take_all_characters()
        _put(sys.stderr, text)


def _put(stream: TextIO | None, text: str) -> None:
    """What `line` shows on a screen of the stream."""
    stream = getattr(stream, "rich_proxied_file", stream)  # past what a progress bar puts in the stream's place
    if stream is None:
        return
    try:
        stream.write(safe.terminal(text).expandtabs(TAB) + "\n")
        stream.flush()
    except BrokenPipeError:
        raise SystemExit(1)  # noqa: B904 (as rich ends then; the command line looks at the context)


def document(text: str) -> None:
    """The content of a file on standard output: safe in a terminal, into a file or a pipe as it is, or not at all.

    Raises:
        UnicodeEncodeError: The output's encoding lacks a character.
    """
    if sys.stdout.isatty():
        text = safe.terminal(text)
    else:
        text.encode(sys.stdout.encoding or "utf-8")
    sys.stdout.write(text)
    sys.stdout.flush()


def json_document(value: object) -> None:
    """A value as JSON on standard output, which whatever reads it can read in any encoding.

    Args:
        value: See `autolora.files.json_text`.
    """
    document(safe.json_text(json_text(value), sys.stdout.encoding or "utf-8") + "\n")


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
        self.console = console or screen(stderr=True)
        self.first = self.done = self.total = 0
        self.begun = self.last_line = time.monotonic()
        self.text = ""
        self.bar: Progress | None = None

    def __enter__(self) -> Self:
        if self.show and self.console.is_terminal:
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self.bar = Progress(
                TextColumn("{task.description}", style="bold", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[losses]}", markup=False),
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
        line(self.console, text)

    def _rate(self) -> float:
        """Steps a second."""
        return (self.done - self.first) / max(time.monotonic() - self.begun, 1e-9)

    def _left(self) -> float:
        """Seconds."""
        return (self.total - self.done) / max(self._rate(), 1e-9)

    def _status(self) -> str:
        return f"{self.text}  {self._rate() * self.examples:.1f} examples/s".strip()
