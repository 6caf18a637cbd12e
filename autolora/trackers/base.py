"""The base class of trackers: one tracked run, and what is sent to it.

A subclass wraps accelerate's tracker of the same name (`accelerate.tracking`), and adds what that has no word for:
histograms, pictures, and going on with the tracked run of an interrupted process.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

Ended = Literal["success", "failed", "cancelled"]
BY_LAYER = " by layer/"  # in the names of distributions of a layer, beside those of all layers together
_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):[^/\s]*@")
_IN_QUERY = re.compile(r"(?i)([?&][^=&\s]*(?:token|key|secret|password)[^=&\s]*=)[^&\s'\")]+")


@dataclass(frozen=True)
class About:
    """What a tracked run is called, and where it may be kept.

    Args:
        project: What holds the tracked runs of a recipe: the recipe's name.
        name: The tracked run's.
        group: The comparison that it belongs to; "" for a run alone.
        tags: Method, seed and recipe, by these names.
        folder: Where the tracker keeps what it writes, where the user's environment names no other place.
    """

    project: str
    name: str
    group: str
    tags: Mapping[str, str]
    folder: Path


class Tracker(ABC):
    """One tracked run. Whatever goes wrong is raised; see `autolora.trackers.follow` for what comes of it.

    Args:
        about: What it is called, and where it may be kept.
    """

    modules: ClassVar[tuple[str, ...]]
    """What is imported, all of which must be there."""

    extra: ClassVar[str] = "trackers"
    """The extra of autolora that brings it."""

    ended: Ended = "success"
    """How the run has ended for this process; set before `close`."""

    def __init__(self, about: About) -> None:
        self.about = about

    @abstractmethod
    def place(self) -> str:
        """Where it writes, as the user is told; imports nothing heavy."""

    @abstractmethod
    def open(self, run_id: str | None) -> str:
        """Begin the tracked run, or go on with one.

        Args:
            run_id: What an earlier process's `open` returned; None for a new run.

        Returns:
            What another process can go on with it by.
        """

    @abstractmethod
    def config(self, values: Mapping[str, Any], text: str) -> None:
        """The resolved recipe.

        Args:
            values: Its fields, dotted; plain numbers, words, truth values or None.
            text: Its YAML.
        """

    @abstractmethod
    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers of one step.

        Args:
            values: By name, ``search/train_loss``.
            step: Of the log that they are of, from 1.
        """

    @abstractmethod
    def histograms(self, values: Mapping[str, Sequence[float]], step: int) -> None:
        """Distributions of one step.

        Args:
            values: By name, each at least one number.
            step: As in `scalars`.
        """

    @abstractmethod
    def picture(self, name: str, path: Path, step: int) -> None:
        """A PNG.

        Args:
            name: ``search/rank map``.
            path: Its file.
            step: The last of its stage.
        """

    @abstractmethod
    def close(self) -> None:
        """End it for this process, as `ended` says; what was sent is kept."""


def without_secrets(text: str) -> str:
    """A place or an error's text as it may be shown: addresses without their passwords and tokens.

    >>> without_secrets("postgresql://ann:tulip@db/runs"), without_secrets("http://h:7860/?write_token=9f&x=1")
    ('postgresql://ann:…@db/runs', 'http://h:7860/?write_token=…&x=1')

    Args:
        text: Any.
    """
    return _IN_QUERY.sub(r"\1…", _PASSWORD.sub(r"\1:…@", text))


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Inside, variables of the environment are set that the user has not set, or has set to nothing.

    Args:
        values: By name.
    """
    before = {name: os.environ.get(name) for name in values if not os.environ.get(name)}
    os.environ.update({name: values[name] for name in before})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Smallest, quartiles and largest, for trackers that keep no distributions.

    Args:
        values: At least one.
    """
    import numpy as np

    found = np.quantile(np.asarray(values, dtype=float), (0, 0.25, 0.5, 0.75, 1))
    return dict(zip(("min", "p25", "median", "p75", "max"), map(float, found), strict=True))
