"""The process of one cell: its run's stages that are not done yet, one after the other."""

from __future__ import annotations

import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import torch

from autolora import pipeline
from autolora.compare.execute import end_with_parent
from autolora.console import hush
from autolora.errors import CANCELLED, FAILED
from autolora.lab import Lab
from autolora.methods.base import method_class
from autolora.recipe.schema import Recipe
from autolora.runs.store import Run


def work(path: str, recipe: Recipe, threads: int | None, show: bool) -> None:
    """Target of the process. Exits with 0, 1 (failed; the reason is in status.json) or 130 (cancelled)."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    end_with_parent()
    run = Run(Path(path), recipe)
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        run_stages(run, show=show)
    except KeyboardInterrupt:
        run.mark("cancelled")
        sys.exit(CANCELLED)
    except Exception as error:
        run.mark("failed", error=_one_line(error), traceback=traceback.format_exc())
        sys.exit(FAILED)


def run_stages(run: Run, *, show: bool) -> None:
    """Search, retrain and evaluate what is left of it. The checkpoints go once the run is whole: disks are finite."""
    hush()
    lab = Lab(run.recipe, show=show)
    stages: dict[str, Any] = {"retrain": pipeline.retrain, "eval": pipeline.evaluate}
    if method_class(run.recipe.method.name).searches:
        stages = {"search": pipeline.search, **stages}
    for name, stage in stages.items():
        if run.stage_state(name) != "success":
            stage(run, lab)
    for checkpoint in run.path.glob("*/**/checkpoint.safetensors"):
        checkpoint.unlink()


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
