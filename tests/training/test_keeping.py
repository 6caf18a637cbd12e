"""Which step's weights are kept: of a stage whose value is known, interrupted anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autolora.training.keeping import Keeping
from autolora.training.log import MetricLog
from autolora.training.loop import run_steps
from tests.training.test_loop import Counting, Watching

VALUES = {2: 5.0, 4: 3.0, 6: 3.0, 8: 4.0, 10: None, 12: 2.0, 13: 9.0}


class Weighted(Counting):
    """Its one weight is the number of steps done."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.zeros(())

    def advance(self, step: int) -> Any:
        self.weight += 1
        return super().advance(step)

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), "weight": self.weight}

    def load(self, tensors: Any) -> None:
        super().load(tensors)
        self.weight.copy_(tensors["weight"])


def trained(folder: Path, *, stop: int | None = None, total: int = 13, **more: Any) -> tuple[Weighted, Keeping, int]:
    """The stage, what looks at it, and the steps done; it begins from the folder's checkpoint, if there is one."""
    stage = Weighted()
    values = more.pop("values", VALUES)
    keeping = Keeping(
        {"weight": stage.weight}, lambda: values[int(stage.weight)], "loss", every=2, **{"best": True, **more}
    )
    done = run_steps(
        stage,
        total=total,
        log_every=3,
        checkpoint_every=5,
        log=MetricLog(folder / "log.jsonl"),
        checkpoint=folder / "checkpoint.safetensors",
        observer=Watching(stop),
        keeping=keeping,
    )
    return stage, keeping, done


def test_the_best_weights_are_put_back_and_the_first_of_equals_counts(tmp_path: Path) -> None:
    stage, keeping, done = trained(tmp_path)
    assert (done, float(stage.weight), keeping.evaluations) == (13, 13.0, 7)
    keeping.restore()
    assert (float(stage.weight), keeping.step, keeping.value) == (12.0, 12, 2.0)
    stage, keeping, _ = trained(tmp_path / "higher", higher_is_better=True)
    assert (keeping.step, keeping.value) == (13, 9.0)
    stage, keeping, _ = trained(tmp_path / "ties", values={**VALUES, 12: 3.0})
    assert (keeping.step, keeping.value) == (4, 3.0)


def test_the_log_has_the_values_and_means_over_the_steps_between(tmp_path: Path) -> None:
    trained(tmp_path)
    records = MetricLog(tmp_path / "log.jsonl").records()
    assert {r["step"]: r["held_out_loss"] for r in records if "held_out_loss" in r} == VALUES
    assert [r["step"] for r in records] == [2, 3, 4, 6, 8, 9, 10, 12, 13]
    assert [r["loss"] for r in records] == [1.5, 3.0, 4.0, 5.5, 7.5, 9.0, 10.0, 11.5, 13.0]


def test_patience_ends_the_training_and_it_stays_ended(tmp_path: Path) -> None:
    _, keeping, done = trained(tmp_path, patience=2)
    assert (done, keeping.step, keeping.since) == (8, 4, 2)
    stage, again, done = trained(tmp_path, patience=2)
    assert (done, again.step, stage.advanced) == (8, 4, [])
    again.restore()
    assert float(stage.weight) == 4.0
    stage, last, done = trained(tmp_path / "last", patience=2, best=False)
    last.restore()
    assert (done, float(stage.weight)) == (8, 8.0)


@pytest.mark.parametrize("stop", range(1, 13))
@pytest.mark.parametrize("patience", [None, 4])
def test_a_training_gone_on_with_ends_as_one_that_was_not_stopped(
    tmp_path: Path, stop: int, patience: int | None
) -> None:
    whole, expected, done = trained(tmp_path / "whole", patience=patience)
    folder = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        trained(folder, stop=stop, patience=patience)
    stage, keeping, again = trained(folder, patience=patience)
    assert again == done
    assert keeping.record() == expected.record()
    assert MetricLog(folder / "log.jsonl").records() == MetricLog(tmp_path / "whole" / "log.jsonl").records()
    for each, kept in ((whole, expected), (stage, keeping)):
        kept.restore()
        assert float(each.weight) == expected.step


def test_nothing_is_kept_before_the_weights_are_whole(tmp_path: Path) -> None:
    _, keeping, _ = trained(tmp_path, first=5)
    assert (keeping.evaluations, keeping.step) == (5, 12)
    _, keeping, done = trained(tmp_path / "early", first=7, patience=1)
    assert (keeping.step, done) == (8, 10)
