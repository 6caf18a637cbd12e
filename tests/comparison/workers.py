"""What stands for the process of a trial where it matters how it ends, and not what it trains."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty

from autolora.comparison.carried import Parcel
from autolora.recipe.schema import Recipe
from autolora.runs.lock import LOOK_EVERY
from autolora.runs.store import Run


def work(path: str, recipe: Recipe, *_: object) -> None:
    """Says that it is there, waits while the runs' folder has a file "wait", and succeeds."""
    run = Run(Path(path), recipe)
    with run.hold(10.0):
        (run.path / f"worked-{os.getpid()}").touch()
        while (run.path.parent / "wait").exists():
            time.sleep(LOOK_EVERY / 10)
        with run.stage("eval"):
            time.sleep(0.1)


def work_and_die(path: str, recipe: Recipe, *_: object) -> None:
    """Succeeds, and ends badly all the same."""
    work(path, recipe)
    os._exit(9)


def die(path: str, recipe: Recipe, *_: object) -> None:
    """Ends by a signal at once."""
    with Run(Path(path), recipe).hold(10.0):
        os.kill(os.getpid(), 9)


def fail(path: str, recipe: Recipe, *_: object) -> None:
    """Fails, as a diverged trial does."""
    run = Run(Path(path), recipe)
    with run.hold(10.0):
        (run.path / f"worked-{os.getpid()}").touch()
        time.sleep(0.3)
        run.mark("failed", error="it diverged")


def say_device(
    path: str, recipe: Recipe, precision: str, threads: int, show: bool, tracking: object, device: str, told: bool
) -> None:
    """Writes down what it was given."""
    (Path(path) / "device").write_text(f"{device} {threads}")


def visible_in_a_worker(path: str, device: str) -> None:
    """What a worker's process sees when its work begins."""
    from autolora.comparison import worker

    def look(run: Run, *_: object) -> None:
        (run.path / "device").write_text(os.environ["CUDA_VISIBLE_DEVICES"])

    worker._work = look
    worker.work(path, Run.open(Path(path)).recipe, "float32", None, False, device=device)


class QueuePost:
    """A way for parcels between processes.

    Args:
        parcels: A queue of multiprocessing.
    """

    def __init__(self, parcels: Queue[Parcel]) -> None:
        self.parcels = parcels

    def send(self, parcel: Parcel) -> None:
        self.parcels.put(parcel)

    def deliver(self, parcel: Parcel) -> None:
        self.parcels.put(parcel)
        self.parcels.close()
        self.parcels.join_thread()

    def collect(self) -> list[Parcel]:
        found = []
        with suppress(Empty):
            while True:
                found.append(self.parcels.get_nowait())
        return found
