"""The process of one trial: its run's stages that are not done yet, one after the other."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import FrameType

import torch

from autolora.causes import explained
from autolora.comparison.child import end_with_parent
from autolora.comparison.devices import VISIBLE
from autolora.console import hush, warn
from autolora.context.base import Context
from autolora.errors import CANCELLED, FAILED
from autolora.experiment.line import run_stages
from autolora.recipe.schema import Recipe
from autolora.runs.lock import HeldError
from autolora.runs.store import Run
from autolora.trackers.follow import UNTRACKED, Tracking, following
from autolora.training.compute import Compute, Precision
from autolora.training.kernels import bound_kernels

BUSY = 75  # the exit code where another process is at the run, and nothing was done
WAIT = 10.0  # seconds that a process whose comparison was killed may take to notice it


def work(
    path: str,
    recipe: Recipe,
    precision: Precision,
    threads: int | None,
    show: bool,
    tracking: Tracking = UNTRACKED,
    device: str | None = None,
    told: bool = False,
) -> None:
    """Target of the process. Exits with 0, 3 (failed; the reason is in status.json), 75 (`BUSY`) or 130 (cancelled).

    Args:
        path: The run's folder.
        recipe: The trial's.
        precision: Of its passes, whatever this machine would take by itself.
        threads: How many threads torch may use; None for all.
        show: Show the progress.
        tracking: What follows the trial.
        device: The one GPU that it sees, as CUDA_VISIBLE_DEVICES has it; None to see what is there.
        told: What is doubtful about the data has been said.
    """
    if device is not None:
        os.environ[VISIBLE] = device  # before anything of CUDA is begun here, which reads it once
    bound_kernels()
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    end_with_parent()
    run = Run(Path(path), recipe)
    try:
        with run.hold(WAIT):
            _work(run, precision, threads, show, tracking, told)
    except HeldError:
        sys.exit(BUSY)
    except KeyboardInterrupt:
        sys.exit(CANCELLED)


def _work(
    run: Run, precision: Precision, threads: int | None, show: bool, tracking: Tracking, told: bool = False
) -> None:
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        with following(run, tracking.names, tracking.group):
            run_whole(run, precision, show=show, told=told)
    except KeyboardInterrupt:
        with suppress(OSError):
            run.mark("cancelled")
        raise
    except Exception as error:
        reason = _reason(error)
        try:
            run.mark("failed", error=reason, traceback=traceback.format_exc())
        except OSError as unkept:
            warn(f"{run.path}: {reason} (which could not be kept in its status.json: {unkept.strerror})")
        sys.exit(FAILED)


def run_whole(run: Run, precision: Precision, *, show: bool, told: bool = False) -> None:
    """Do what is left of a run. The checkpoints go once the run is whole: disks are finite.

    Args:
        run: The run.
        precision: Of its passes.
        show: Show the progress.
        told: What is doubtful about the data has been said.
    """
    hush()
    given = {"trust_remote_code": True, "announce": False}  # the comparison has asked, and said
    run_stages(run, Context(run.recipe, Compute(precision), show=show, told=told, **given))
    remove_checkpoints(run)


def remove_checkpoints(run: Run) -> None:
    """Of a run that is whole.

    Args:
        run: The run.
    """
    for checkpoint in run.path.glob("*/**/checkpoint.safetensors"):
        checkpoint.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    """In one line; a fault of ours with its type."""
    told = explained(error)
    return " ".join((str(told) if told else f"{type(error).__name__}: {error}").split())[:500]


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
