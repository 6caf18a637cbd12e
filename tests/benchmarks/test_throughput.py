"""The benchmark of throughput in short: one step each of ours and of two Trainers, on real data where that is there."""

from __future__ import annotations

import pytest
import torch

from benchmarks import throughput
from benchmarks.throughput import DEFAULT, GROUPED, OURS, RANDOM, rows


def test_all_trainings_take_their_turns(capsys: pytest.CaptureFixture[str]) -> None:
    throughput.main(["--block", "1", "--blocks", "1", "--warmup", "0", "--batch-size", "2", "--precision", "float32"])
    said = capsys.readouterr().out
    assert all(f"| {name} " in said for name in (OURS, GROUPED, RANDOM))
    assert DEFAULT not in said  # in float32 it is the random one
    assert torch.is_grad_enabled()


def test_ratios_are_of_medians_and_of_all_blocks() -> None:
    ours, grouped = rows({OURS: [1.0, 2.0, 3.0], GROUPED: [3.0, 3.0, 9.0]}, 10)
    assert (ours["samples/s"], grouped["samples/s"]) == ("5.0", "3.3")
    assert (grouped["ours is so many times as fast"], grouped["over all blocks"]) == ("1.50", "2.50")
