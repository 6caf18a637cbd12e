"""A search run as a stage, in a folder, to its end or to an interruption."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from autolora.bilevel.loop import BilevelSearch
from autolora.training.log import MetricLog
from autolora.training.loop import run_steps

TOTAL = 7


class Interruption:
    """An observer that stops the run after a step, as Ctrl-C does."""

    def __init__(self, after: int) -> None:
        self.after = after

    def start(self, done: int, total: int) -> None: ...

    def losses(self, done: int, losses: Mapping[str, float]) -> None: ...

    def step(self, done: int) -> None:
        if done == self.after:
            raise KeyboardInterrupt


def run(
    stage: BilevelSearch, folder: Path, after: int | None = None, *, log_every: int = 2, checkpoint_every: int = 3
) -> str:
    """Run the stage, possibly interrupted; the log."""
    run_steps(
        stage,
        total=TOTAL,
        log_every=log_every,
        checkpoint_every=checkpoint_every,
        log=MetricLog(folder / "log.jsonl"),
        checkpoint=folder / "checkpoint.safetensors",
        observer=Interruption(after) if after else None,
    )
    return (folder / "log.jsonl").read_text(encoding="utf-8")


def check_same(resumed: BilevelSearch, whole: BilevelSearch) -> None:
    """Bit for bit."""
    assert resumed.ranks() == whole.ranks()
    truth, found = whole.state(), resumed.state()
    assert truth.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in truth.items())
