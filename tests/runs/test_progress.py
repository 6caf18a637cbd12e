"""How far a run is, from files that may be half written, damaged or gone."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from autolora.cli.watch_views import of_run
from autolora.runs.progress import progress, tail
from autolora.runs.status import Status
from autolora.runs.store import Run
from autolora.training.checkpoint import save_checkpoint
from tests.export.runs import make_run
from tests.runs.test_lock import Elsewhere

NOW = datetime.now(UTC)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose retraining is at step 30 of 100, as far as its log says."""
    made = Run.open(make_run(tmp_path))
    Status(made.path).mark_stage("retrain", "running")
    made.note("retrain", underway={"part": "retrain", "first": 0, "total": 100, "at": "2026-01-01T00:00:00+00:00"})
    (made.path / "retrain").mkdir()
    lines = [{"step": step, "train_loss": 1 / step, "weights_learning_rate": 0.1} for step in (10, 20, 30)]
    (made.path / "retrain" / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return made


def test_a_run_that_is_running_says_step_loss_speed_and_time_left(run: Run) -> None:
    there = Elsewhere(run.path / ".lock")
    try:
        found = progress(run.path, NOW)
    finally:
        there.kill()
    assert (found.running, found.stage, found.step, found.total) == (True, "retrain", 30, 100)
    assert found.losses == {"train_loss": 1 / 30}
    assert found.rates == {"weights_learning_rate": 0.1}
    assert list(found.curve) == [1 / 10, 1 / 20, 1 / 30]
    assert found.speed is not None
    assert found.left == pytest.approx(70 / found.speed)
    assert found.holder is not None
    assert found.holder.pid == there.process.pid
    assert not progress(run.path, NOW).running  # it is gone


def test_a_checkpoint_after_the_last_line_counts(run: Run) -> None:
    save_checkpoint(run.path / "retrain" / "checkpoint.safetensors", {"w": torch.ones(2)}, {"step": 36})
    assert progress(run.path, NOW).step == 36
    (run.path / "retrain" / "checkpoint.safetensors").write_bytes(b"\xff" * 40)
    assert progress(run.path, NOW).step == 30


@pytest.mark.parametrize(
    "end", ['{"step": 40, "train_lo', "nonsense\n", "[1, 2]\n", '{"step": "x"}\n', "\x00\x00\n", "[" * 100_000 + "\n"]
)
def test_half_a_line_and_damaged_ones_are_passed_over(end: str, run: Run) -> None:
    log = run.path / "retrain" / "log.jsonl"
    log.write_text(log.read_text() + end)
    assert progress(run.path, NOW).step == 30
    assert [each["step"] for each in tail(log)] == [10, 20, 30]


def test_of_a_long_log_the_end_is_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autolora.runs.progress.TAIL", 100)
    assert [each["step"] for each in tail(run.path / "retrain" / "log.jsonl")] == [30]


def test_selection_variables_and_ranks_are_summarised(run: Run) -> None:
    run.note("retrain", underway={"part": "retrain", "first": 0, "total": 100, "at": NOW.isoformat()})
    line = {"step": 40, "ranks": {"a": 2, "b": 0}, "selection": {"a": [0.1, 0.4], "b": [0.2, 0.3, 0.9]}}
    with (run.path / "retrain" / "log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    found = progress(run.path, NOW)
    assert dict(found.ranks) == {"a": 2, "b": 0}
    assert found.quantiles() == (0.1, 0.3, 0.9)


def test_a_run_that_is_being_removed_is_no_error(run: Run) -> None:
    (run.path / "status.json").write_text("{")
    assert progress(run.path, NOW).summary.state == "unreadable"
    shutil.rmtree(run.path)
    assert progress(run.path, NOW).summary.state == "unreadable"


def test_a_log_elsewhere_is_not_read(run: Run) -> None:
    run.note("retrain", underway={"part": "../../x", "first": 0, "total": 100, "at": "no time"})
    assert progress(run.path, NOW).step is None


def test_the_best_of_what_weights_are_chosen_by_is_said(run: Run) -> None:
    assert progress(run.path, NOW).held_out is None
    begun = {"part": "retrain", "first": 0, "total": 100, "at": NOW.isoformat()}
    log = run.path / "retrain" / "log.jsonl"
    lines = [
        {"step": step, "train_loss": 1.0, "held_out_f1": value} for step, value in ((40, 0.5), (50, 0.7), (60, 0.7))
    ]
    log.write_text(log.read_text() + "".join(json.dumps(line) + "\n" for line in [*lines, {"step": 70}]))
    for higher, best in ((True, (50, 0.7)), (False, (40, 0.5))):
        run.note("retrain", underway={**begun, "chosen_by": ["held_out_f1", higher]})
        found = progress(run.path, NOW).held_out
        assert found is not None
        assert (found.name, found.best, found.kept) == ("held_out_f1", best, None)
    run.note("retrain", kept={"step": 40})
    view = of_run(run.path, progress(run.path, NOW))
    assert view.facts["held out"].endswith(" best f1 0.5000 at step 40; the weights of step 40 are kept")
