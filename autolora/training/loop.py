"""The loop over steps that search and retrain share: log, checkpoint, show progress, resume.

    run_steps(stage, total=200, log_every=10, checkpoint_every=100, journal=journal, checkpoint=path)

`stage` does one step at a time and says what its state is; everything else happens here. Losses stay on the device
until a record is written: the loop does not wait for the device at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from autolora.training.checkpoint import load_checkpoint, save_checkpoint
from autolora.training.journal import Journal

_SUM = "#loss-sum:"


class Stage(Protocol):
    """One trainable thing."""

    identity: str  # what must be the same for a checkpoint to fit: settings, data and model in one hash

    def advance(self, step: int) -> Mapping[str, Tensor]:
        """Do step `step` (0-based); the losses by name, scalars on the device."""

    def record(self, step: int) -> Mapping[str, Any]:
        """What else the log should say after `step` steps."""

    def state(self) -> Mapping[str, Tensor]:
        """Everything that changes, by name."""

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `state`."""


class Observer(Protocol):
    """Is told of every step; see `autolora.console`."""

    def start(self, done: int, total: int) -> None: ...

    def step(self, done: int) -> None: ...

    def losses(self, done: int, losses: Mapping[str, float]) -> None: ...


def run_steps(
    stage: Stage,
    *,
    total: int,
    log_every: int,
    checkpoint_every: int,
    journal: Journal | None = None,
    checkpoint: Path | None = None,
    observer: Observer | None = None,
    main_process: bool = True,
    on_accepted: Callable[[], None] = lambda: None,
) -> None:
    """Run the steps that are left. With a `checkpoint` file of the same stage, goes on from there.

    on_accepted: called before the first step, when the checkpoint (if there is one) was found to belong to the stage.
    """
    done, sums = _resume(stage, journal if main_process else None, checkpoint)
    on_accepted()
    if observer:
        observer.start(done, total)
    while done < total:
        losses = stage.advance(done)
        done += 1
        for name, value in losses.items():
            sums[name] = sums[name] + value if name in sums else value.clone()
        if observer:
            observer.step(done)
        if done % log_every == 0 or done == total:
            _log(stage, done, sums, log_every, journal if main_process else None, observer)
            sums = {}
        if checkpoint is not None and main_process and (done % checkpoint_every == 0 or done == total):
            _save(stage, done, sums, journal, checkpoint)


def _resume(stage: Stage, journal: Journal | None, checkpoint: Path | None) -> tuple[int, dict[str, Tensor]]:
    if checkpoint is None or not checkpoint.exists():
        if journal:
            journal.cut(0)
        return 0, {}
    tensors, record = load_checkpoint(checkpoint)
    if record["identity"] != stage.identity:
        from autolora.errors import UserError

        raise UserError(
            f"{checkpoint} belongs to other settings, data or model than those of this run; "
            "start a new run, or take back what was changed"
        )
    sums = {name.removeprefix(_SUM): value for name, value in tensors.items() if name.startswith(_SUM)}
    stage.load({name: value for name, value in tensors.items() if not name.startswith(_SUM)})
    if journal:
        journal.cut(record["log_bytes"])
    return int(record["step"]), sums


def _log(
    stage: Stage,
    done: int,
    sums: Mapping[str, Tensor],
    log_every: int,
    journal: Journal | None,
    observer: Observer | None,
) -> None:
    count = (done - 1) % log_every + 1
    names = list(sums)
    means = (torch.stack([sums[n] for n in names]) / count).tolist()  # the one transfer from the device
    losses = dict(zip(names, means, strict=True))
    if journal:
        journal.add({"step": done, **losses, **stage.record(done)})
    if observer:
        observer.losses(done, losses)


def _save(stage: Stage, done: int, sums: Mapping[str, Tensor], journal: Journal | None, checkpoint: Path) -> None:
    tensors = {**stage.state(), **{_SUM + name: value for name, value in sums.items()}}
    record = {"identity": stage.identity, "step": done, "log_bytes": journal.size() if journal else 0}
    save_checkpoint(checkpoint, tensors, record)
