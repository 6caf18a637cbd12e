"""What search and retrain share: running a stage's steps in a run's directory, and counting parameters."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from autolora.console import StageProgress
from autolora.lab import Lab
from autolora.recipe.schema import Steps
from autolora.runs.manifest import peak_memory_mib
from autolora.runs.store import Run
from autolora.training.journal import Journal
from autolora.training.loop import Stage, run_steps


def run_in(run: Run, lab: Lab, name: str, stage: Stage, settings: Steps, total: int, title: str = "") -> None:
    """Run a stage's steps, with its log and checkpoint in the run's folder `name`; notes time, memory and passes."""
    folder, top = run.path / name, name.split("/")[0]
    begun = time.monotonic()
    try:
        with StageProgress(title or name, examples=settings.batch_size, show=lab.show and lab.main) as progress:
            run_steps(
                stage,
                total=total,
                log_every=settings.log_every,
                checkpoint_every=settings.checkpoint_every,
                journal=Journal(folder / "log.jsonl"),
                checkpoint=folder / "checkpoint.safetensors",
                observer=progress,
                main_process=lab.main,
                on_accepted=run.save_recipe,
            )
    finally:  # an interrupted part is on the bill, too
        add_seconds(run, top, time.monotonic() - begun)
    run.note(top, peak_memory_mib=peak_memory_mib(lab.accelerator.device), processes=lab.accelerator.num_processes)


def forget_seconds(run: Run, stage: str) -> None:
    """Before a stage: one that is begun anew, and not gone on with, has taken no time yet."""
    interrupted = run.stage_state(stage) not in (None, "success")
    if not interrupted and not any((run.path / stage).rglob("checkpoint.safetensors")):
        run.note(stage, seconds=0.0)


def add_seconds(run: Run, stage: str, seconds: float) -> None:
    """Add to what a stage has taken so far: a resumed stage took what its parts took."""
    previous = run.manifest().get("stages", {}).get(stage, {}).get("seconds", 0.0)
    run.note(stage, seconds=round(previous + seconds, 2))


def trainable_parameters(model: torch.nn.Module, head: Sequence[str] = ()) -> dict[str, int]:
    """How many parameters are trained, and how many of them belong to the head's modules, as manifest entries."""
    counts = {"trainable_parameters": 0, "head_parameters": 0}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            counts["trainable_parameters"] += parameter.numel()
            counts["head_parameters"] += parameter.numel() if in_head(name, head) else 0
    return counts


def in_head(parameter: str, head: Sequence[str]) -> bool:
    """Whether a parameter's full name, PEFT's wrapping or not, lies in one of the head's modules."""
    name = f".{parameter.removeprefix('base_model.model.')}"
    return any(name.startswith(f".{module}.") for module in head)
