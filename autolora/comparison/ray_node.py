"""What runs on the nodes of a Ray cluster: a look at the node, and a trial. It does not import Ray."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from autolora.comparison.carried import Parcel
from autolora.comparison.carrying import Post, run_carried
from autolora.comparison.worker import BUSY, work
from autolora.recipe.schema import Recipe
from autolora.runs.lock import Lock
from autolora.trackers.follow import UNTRACKED, Tracking
from autolora.training.compute import Precision, default_device, precision

__all__ = ["BUSY", "Seen", "look", "precision_here", "run_trial", "run_trial_apart"]
SAME = ("autolora", "torch", "transformers", "peft")  # what results depend on


@dataclass(frozen=True)
class Seen:
    """What a node sees.

    Args:
        shared: Whether it sees a file in the runs' folder.
        locked: Whether it sees that the file is locked by another machine.
        folder: Whether it has the working folder.
        versions: Of `SAME`; "" of what is not installed as a package.
    """

    shared: bool
    locked: bool
    folder: bool
    versions: dict[str, str]


def look(folder: str, lock: str) -> Seen:
    """What this node sees.

    Args:
        folder: The working folder of whoever asks.
        lock: A lock that is held there, in the runs' folder.
    """
    shared = Path(lock).exists()
    return Seen(
        shared, shared and Lock(Path(lock)).holder() is not None, Path(folder).is_dir(), dict(map(_version, SAME))
    )


def precision_here() -> Precision:
    """What passes are in on this node, where the recipe leaves it to the machine."""
    return precision("auto", default_device())


def run_trial(
    folder: str, path: str, recipe: Recipe, precision: Precision, threads: int, tracking: Tracking = UNTRACKED
) -> int:
    """A trial, to its end, in a process of its own.

    Args:
        folder: The working folder, which relative paths of the recipe start from.
        path: The run's.
        recipe: The trial's.
        precision: Of its passes.
        threads: How many torch may use.
        tracking: What follows it.

    Returns:
        The exit code that a process would have, see `autolora.comparison.worker.work`.

    Raises:
        OSError: This node, which came later than the others, does not see the folders.
    """
    os.chdir(folder)
    if not (Path(path) / "recipe.yaml").is_file():
        raise FileNotFoundError(f"the node {socket.gethostname()} does not see {path}")
    try:
        work(path, recipe, precision, threads, False, tracking)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def run_trial_apart(
    folder: str,
    parcels: Mapping[str, Parcel],
    name: str,
    recipe: Recipe,
    precision: Precision,
    threads: int,
    post: Post,
    every: float,
) -> int:
    """A trial, to its end, in a process of its own, on a node that does not see its run.

    Args:
        folder: See `run_trial`.
        parcels: See `autolora.comparison.carrying.run_carried`.
        name: See there.
        recipe: See `run_trial`.
        precision: See there.
        threads: See there.
        post: See `run_carried`.
        every: See there.

    Returns:
        See `run_trial`.
    """
    return run_carried(
        parcels, name, post, lambda path: run_trial(folder, str(path), recipe, precision, threads), every
    )


def _version(name: str) -> tuple[str, str]:
    try:
        return name, version(name)
    except PackageNotFoundError:
        return name, ""
