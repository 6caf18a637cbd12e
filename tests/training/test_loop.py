"""The loop over steps, with a stage that only counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autolora.errors import UserError
from autolora.training.log import MetricLog
from autolora.training.loop import run_steps


class Counting:
    """Loss s + 1 at step s; its state is the sum of the losses."""

    def __init__(self, identity: str = "same") -> None:
        self.identity, self.total, self.advanced = identity, torch.zeros(()), list[int]()

    def advance(self, step: int) -> Mapping[str, Tensor]:
        self.advanced.append(step)
        loss = torch.tensor(float(step + 1))
        self.total += loss
        return {"loss": loss}

    def watched(self) -> Mapping[str, Tensor]:
        return {}

    def record(self, step: int) -> Mapping[str, Any]:
        return {"total": float(self.total)}

    def state(self) -> Mapping[str, Tensor]:
        return {"total": self.total}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        self.total = tensors["total"].clone()


class Watching:
    def __init__(self, stop: int | None = None) -> None:
        self.stop, self.seen = stop, list[tuple[Any, ...]]()

    def start(self, done: int, total: int) -> None:
        self.seen.append(("start", done, total))

    def step(self, done: int) -> None:
        self.seen.append(("step", done))
        if done == self.stop:
            raise KeyboardInterrupt

    def losses(self, done: int, losses: Mapping[str, float]) -> None:
        self.seen.append(("losses", done, dict(losses)))


def _run(stage: Counting, folder: Path, *, total: int = 7, checkpoint_every: int = 3, **more: Any) -> list[Any]:
    log = MetricLog(folder / "log.jsonl")
    run_steps(
        stage,
        total=total,
        log_every=2,
        checkpoint_every=checkpoint_every,
        log=log,
        checkpoint=folder / "checkpoint.safetensors",
        **more,
    )
    return log.records()


def test_records_come_every_few_steps_and_at_the_end(tmp_path: Path) -> None:
    assert _run(Counting(), tmp_path) == [
        {"step": 2, "loss": 1.5, "total": 3.0},
        {"step": 4, "loss": 3.5, "total": 10.0},
        {"step": 6, "loss": 5.5, "total": 21.0},
        {"step": 7, "loss": 7.0, "total": 28.0},
    ]


@pytest.mark.parametrize("stop", range(1, 7))
def test_an_interrupted_run_goes_on_from_its_last_checkpoint(stop: int, tmp_path: Path) -> None:
    truth = _run(Counting(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        _run(Counting(), tmp_path / "parts", observer=Watching(stop))
    second = Counting()
    assert _run(second, tmp_path / "parts") == truth
    # A stop comes before that step's own checkpoint is written.
    assert second.advanced == list(range((stop - 1) // 3 * 3, 7))


def test_the_log_is_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _run(Counting(), tmp_path, observer=Watching(6))
    assert [r["step"] for r in MetricLog(tmp_path / "log.jsonl").records()] == [2, 4]
    seen = Watching(5)
    with pytest.raises(KeyboardInterrupt):
        _run(Counting(), tmp_path, observer=seen)
    assert seen.seen[0] == ("start", 3, 7)
    assert [r["step"] for r in MetricLog(tmp_path / "log.jsonl").records()] == [2, 4]


def test_a_new_run_forgets_an_old_log(tmp_path: Path) -> None:
    MetricLog(tmp_path / "log.jsonl").add({"step": 99})
    assert _run(Counting(), tmp_path)[0]["step"] == 2


def test_a_checkpoint_of_something_else_is_the_users_to_mend(tmp_path: Path) -> None:
    _run(Counting(), tmp_path)
    with pytest.raises(UserError, match=r"belongs to other settings, data or model than those of this run"):
        _run(Counting("other"), tmp_path)


def test_the_observer_is_told_of_every_step(tmp_path: Path) -> None:
    watching = Watching()
    _run(Counting(), tmp_path, total=3, observer=watching)
    assert watching.seen == [
        *(("start", 0, 3), ("step", 1), ("step", 2), ("losses", 2, {"loss": 1.5})),
        *(("step", 3), ("losses", 3, {"loss": 3.0})),
    ]


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    run_steps(
        Counting(),
        total=4,
        log_every=2,
        checkpoint_every=2,
        log=MetricLog(tmp_path / "log.jsonl"),
        checkpoint=tmp_path / "checkpoint.safetensors",
        main_process=False,
    )
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_was_begun_elsewhere_goes_on_from_there(tmp_path: Path) -> None:
    stage, watching = Counting(), Watching()
    records = _run(stage, tmp_path, total=8, begin=3, observer=watching)
    assert stage.advanced == [3, 4, 5, 6, 7]
    assert watching.seen[0] == ("start", 3, 8)
    # The first mean is of the one step since the beginning; the others of two.
    assert [(record["step"], record["loss"]) for record in records] == [(4, 4.0), (6, 5.5), (8, 7.5)]


@pytest.mark.parametrize("begin", [1, 2, 3, 5])
@pytest.mark.parametrize("stop", [6, 7])
def test_it_is_resumed_like_any_other(begin: int, stop: int, tmp_path: Path) -> None:
    truth = _run(Counting(), tmp_path / "whole", begin=begin)
    with pytest.raises(KeyboardInterrupt):
        _run(Counting(), tmp_path / "parts", begin=begin, observer=Watching(stop))
    second = Counting()
    assert _run(second, tmp_path / "parts", begin=begin) == truth
    assert second.advanced == list(range(max(begin, (stop - 1) // 3 * 3), 7))


def test_a_run_without_files_trains(tmp_path: Path) -> None:
    stage = Counting()
    run_steps(stage, total=5, log_every=2, checkpoint_every=2)
    assert stage.advanced == list(range(5))
