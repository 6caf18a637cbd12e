"""The loop over steps that search and retrain share: log, checkpoint, show progress, resume.

    run_steps(trainable, total=200, log_every=10, checkpoint_every=100, log=log, checkpoint=path)

`trainable` does one step at a time and says what its state is; everything else happens here. Losses stay on the device
until a record is written: the loop does not wait for the device at every step. What a step computes is finite, or the
run stops (`autolora.training.finite`), before a record or a checkpoint is written of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from autolora.causes import loaded
from autolora.training.checkpoint import load_checkpoint, save_checkpoint
from autolora.training.finite import Watch
from autolora.training.keeping import BEST, Keeping
from autolora.training.log import MetricLog

_SUM, _COUNT = "#loss-sum:", "#loss-count:"


class Trainable(Protocol):
    """What is trained a step at a time: a search, a fine-tuning."""

    identity: str  # what must be the same for a checkpoint to fit: settings, data and model in one hash

    def advance(self, step: int) -> Mapping[str, Tensor]:
        """Do one step.

        Args:
            step: Which one, from 0.

        Returns:
            The losses by name, scalars on the device; the first is one that every step has.
        """

    def watched(self) -> Mapping[str, Tensor]:
        """What else of the last step must be finite, by what it is called: scalars on the device."""

    def record(self, step: int) -> Mapping[str, object]:
        """What the log says beside the losses, JSON-able.

        Args:
            step: Steps done, from 1.
        """

    def state(self) -> Mapping[str, Tensor]:
        """Everything that changes, by name."""

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `state`.

        Args:
            tensors: A checkpoint's, on the CPU.
        """


class Observer(Protocol):
    """Is told of every step; see `autolora.console`."""

    def start(self, done: int, total: int) -> None:
        """Called before the first step.

        Args:
            done: Steps that an earlier process has done.
            total: Number of steps in all.
        """

    def step(self, done: int) -> None:
        """Called after every step.

        Args:
            done: Steps done, from 1.
        """

    def losses(self, done: int, losses: Mapping[str, float]) -> None:
        """Called whenever the losses are logged.

        Args:
            done: Steps done, from 1.
            losses: Their means since the last time, by name.
        """


def run_steps(
    trainable: Trainable,
    *,
    total: int,
    log_every: int,
    checkpoint_every: int,
    log: MetricLog | None = None,
    checkpoint: Path | None = None,
    observer: Observer | None = None,
    main_process: bool = True,
    on_accepted: Callable[[], None] = lambda: None,
    begin: int = 0,
    watch: Watch | None = None,
    keeping: Keeping | None = None,
) -> int:
    """Run the steps that are left; with a checkpoint of the same trainable, go on from there.

    Args:
        trainable: What is trained.
        total: Number of steps in all.
        log_every: Steps between two records of the log.
        checkpoint_every: Steps between two checkpoints; there is one after the last step, too.
        log: Where records go.
        checkpoint: The checkpoint's file; None for none.
        observer: Told of every step.
        main_process: Whether this process writes.
        on_accepted: Called before the first step, when the checkpoint (if there is one) was found to belong to it.
        begin: The first step, where another training has done those before it.
        watch: Says what to call the training and what to try where it diverges.
        keeping: Looks at the weights every few steps, and may end the training.

    Returns:
        The steps that are done: `total`, or fewer where `keeping` has ended it.

    Raises:
        UserError: The checkpoint belongs to something else, or is damaged.
        RunError: A step's loss, gradients or weights are not finite.
    """
    watch = watch or Watch()
    done, kept = _resume(trainable, log if main_process else None, checkpoint, begin, watch, keeping)
    means = _Means(max(begin, done // log_every * log_every, keeping.logged(done) if keeping else 0))
    means.load(kept, done)
    on_accepted()
    if observer:
        observer.start(done, total)
    while done < total and not (keeping and keeping.ended):
        with loaded({"step": done + 1, "steps": total}):
            losses = trainable.advance(done)
        done += 1
        watch.add({**losses, **trainable.watched()})
        means.add(losses)
        if observer:
            observer.step(done)
        looks = keeping is not None and keeping.due(done, total)
        logs = looks or done % log_every == 0 or done == total
        saves = checkpoint is not None and (done % checkpoint_every == 0 or done == total)
        if logs or saves:
            watch.look()
        found = keeping.look(done) if keeping and looks else {}
        saves = saves or (checkpoint is not None and keeping is not None and keeping.ended)
        if logs:
            _log(trainable, done, means.read(), log if main_process else None, observer, found)
            means = _Means(done)
        if checkpoint is not None and saves:
            state = trainable.state()
            watch.check(state)  # on every process, as all of them have to stop
            if main_process:
                _save(trainable.identity, {**state, **means.state(done)}, done, log, checkpoint, watch, keeping)
    return done


class _Means:
    """The means of the losses since the last record, each over the steps that have it; the sums stay on the device.

    Args:
        begin: Steps done at the last record.
    """

    def __init__(self, begin: int) -> None:
        self.begin = begin
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, losses: Mapping[str, Tensor]) -> None:
        for name, value in losses.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
            self.counts[name] = self.counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """By name; the one transfer from the device."""
        means = torch.stack([total / self.counts[name] for name, total in self.sums.items()]).tolist()
        return dict(zip(self.sums, means, strict=True))

    def state(self, done: int) -> dict[str, Tensor]:
        """The sums, and the counts of those that not every step has."""
        some = {name: count for name, count in self.counts.items() if count != done - self.begin}
        counts = {_COUNT + name: torch.tensor(count) for name, count in some.items()}
        return {**{_SUM + name: total for name, total in self.sums.items()}, **counts}

    def load(self, tensors: Mapping[str, Tensor], done: int) -> None:
        """The inverse of `state`."""
        self.sums = {name.removeprefix(_SUM): total for name, total in tensors.items() if name.startswith(_SUM)}
        for name in self.sums:
            count = tensors.get(_COUNT + name)
            self.counts[name] = done - self.begin if count is None else int(count)


def _resume(
    trainable: Trainable,
    log: MetricLog | None,
    checkpoint: Path | None,
    begin: int,
    watch: Watch,
    keeping: Keeping | None,
) -> tuple[int, dict[str, Tensor]]:
    """Steps done, and what the checkpoint has of the losses since the last record."""
    if checkpoint is None or not checkpoint.exists():
        if log:
            log.clear()
        watch.begin(begin)
        return begin, {}
    tensors, record = load_checkpoint(checkpoint)
    if record["identity"] != trainable.identity:
        from autolora.errors import UserError

        raise UserError(
            f"{checkpoint} belongs to other settings, data or model than those of this run; "
            "start a new run, or take back what was changed"
        )
    losses = {name: value for name, value in tensors.items() if name.startswith((_SUM, _COUNT))}
    trainable.load({name: value for name, value in tensors.items() if not name.startswith((_SUM, _COUNT, BEST))})
    if keeping:
        keeping.load(tensors, record["kept"])
    if log:
        log.cut(record, checkpoint)
    last = record.get("last_loss")  # checkpoints of earlier versions have none
    watch.begin(int(record["step"]), None if last is None else (int(last[0]), float(last[1])))
    return int(record["step"]), losses


def _log(
    trainable: Trainable,
    done: int,
    losses: Mapping[str, float],
    log: MetricLog | None,
    observer: Observer | None,
    found: Mapping[str, object],
) -> None:
    if log:
        log.add({"step": done, **losses, **trainable.record(done), **found})
    if observer:
        observer.losses(done, losses)


def _save(
    identity: str,
    state: Mapping[str, Tensor],
    done: int,
    log: MetricLog | None,
    checkpoint: Path,
    watch: Watch,
    keeping: Keeping | None,
) -> None:
    tensors = {**state, **(keeping.state() if keeping else {})}
    kept = {"kept": keeping.record()} if keeping else {}
    marked = log.mark() if log else {"log_bytes": 0}
    save_checkpoint(
        checkpoint, tensors, {"identity": identity, "step": done, **marked, "last_loss": watch.last, **kept}
    )
