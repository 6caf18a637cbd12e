"""Interrupted runs: what a signal leaves behind, and that going on ends in the bytes of an uninterrupted run."""

import shutil
import signal
import socket
from pathlib import Path

import pytest

from autolora.training.checkpoint import read_record
from tests.cli.support import (
    Call,
    contents,
    finish,
    freeze_when,
    only_run,
    read,
    stage_states,
    start,
    succeed_here,
    unfinish,
)


def checkpointed_step(run: Path, stage: str) -> int:
    return int(read_record(run / stage / "checkpoint.safetensors")["step"])


def has_checkpoint(output: Path, stage: str, after: int = 0) -> bool:
    found = list(output.glob(f"tiny/*/{stage}/checkpoint.safetensors"))
    return bool(found) and checkpointed_step(found[0].parents[1], stage) > after


@pytest.fixture(scope="module")
def interrupted(laboratory: Path) -> Path:
    """A run like `finished`, terminated and then killed in the search and killed in the retraining.

    It is gone on with by naming the recipe, then the run, then nothing at all.
    """
    output = laboratory / "interrupted"
    options = ("--seed", "3", "--output", output)

    process = start("run", "tiny.yaml", *options, cwd=laboratory)
    freeze_when(process, lambda: has_checkpoint(output, "search"))
    run = only_run(output)
    code, err = finish(process, signal.SIGTERM, signal.SIGCONT)
    assert (code, stage_states(run)) == (130, {"search": "cancelled"})
    assert err.endswith("autolora: cancelled; --resume goes on from the last checkpoint\n")
    assert read(run / "status.json")["state"] == "cancelled"
    assert not (run / "search" / "ranks.json").exists()

    done = checkpointed_step(run, "search")
    process = start("run", "tiny.yaml", "--resume", *options, cwd=laboratory)
    freeze_when(process, lambda: has_checkpoint(output, "search", after=done))
    code, _ = finish(process, signal.SIGKILL)
    assert (code, stage_states(run)) == (-signal.SIGKILL, {"search": "running"})
    assert not (run / "search" / "ranks.json").exists()

    process = start("run", run, "--resume", cwd=laboratory)
    freeze_when(process, lambda: has_checkpoint(output, "retrain"))
    code, _ = finish(process, signal.SIGKILL)
    assert (code, stage_states(run)) == (-signal.SIGKILL, {"search": "success", "retrain": "running"})
    assert not (run / "adapter").exists()

    succeed_here("retrain", "--resume", "--output", output, cwd=laboratory)
    succeed_here("eval", "--output", output, cwd=laboratory)
    return only_run(output)


def test_a_run_interrupted_in_every_stage_ends_as_one_run_with_every_stage_done(interrupted: Path) -> None:
    assert stage_states(interrupted) == {"search": "success", "retrain": "success", "eval": "success"}
    assert read(interrupted / "status.json")["state"] == "success"


def test_a_resumed_run_equals_an_uninterrupted_one_byte_for_byte(interrupted: Path, finished: Path) -> None:
    resumed, straight = contents(interrupted), contents(finished)
    assert list(resumed) == list(straight)
    assert [name for name in straight if resumed[name] != straight[name]] == []
    compared = {"search/ranks.json", "search/log.jsonl", "retrain/log.jsonl", "adapter/adapter_model.safetensors"}
    assert {*compared, "predictions/validation.jsonl", "metrics.json", "metrics.md", "metrics.csv"} <= straight.keys()


@pytest.mark.parametrize(
    ("stage", "change"),
    [("search", "search.weights.learning_rate=1e-2"), ("retrain", "retrain.weights.weight_decay=0.5")],
)
def test_a_stage_resumed_with_other_settings_is_refused_and_can_still_be_resumed_with_its_own(
    call: Call, copied: Path, finished: Path, stage: str, change: str
) -> None:
    unfinish(copied, stage)
    code, _, err = call(stage, copied, "--resume", "--set", change)
    assert code == 2
    assert "Traceback" not in err
    assert f"{stage}/checkpoint.safetensors belongs to other settings, data or model than those of this run" in err
    code, _, err = call(stage, copied, "--resume")
    assert (code, stage_states(copied)[stage]) == (0, "success"), err
    compared = {"search": "search/ranks.json", "retrain": "adapter/adapter_model.safetensors"}[stage]
    assert (copied / compared).read_bytes() == (finished / compared).read_bytes()


def test_a_recipe_with_other_settings_has_nothing_to_resume(call: Call, copied: Path, laboratory: Path) -> None:
    output = copied.parents[1]
    code, _, err = call("run", laboratory / "tiny.yaml", "--resume", "--seed", "4", "--output", output)
    assert code == 2
    assert f"nothing to resume: {output / 'tiny'} holds no run of exactly this recipe" in err
    assert list(output.glob("*/*")) == [copied]


def test_what_has_ended_keeps_its_settings(call: Call, copied: Path) -> None:
    recipe = (copied / "recipe.yaml").read_bytes()
    code, _, err = call("retrain", copied, "--set", "search.rank=2")
    assert code == 2
    assert f"{copied} was searched with search.rank 4, not 2; start a new run with: autolora search" in err
    for command in (("eval",), ("run", "--resume")):
        code, _, err = call(*command, copied, "--set", "retrain.weights.learning_rate=0.5")
        assert code == 2
        assert f"{copied} was trained with retrain.weights.learning_rate 0.005, not 0.5; train it anew with: " in err
    assert (copied / "recipe.yaml").read_bytes() == recipe


def test_a_stage_that_a_live_process_is_running_is_refused(call: Call, laboratory: Path, copied: Path) -> None:
    status = read(copied / "status.json")
    process = start("search", "tiny.yaml", "--output", "live", "--set", "search.steps=100000", cwd=laboratory)
    freeze_when(process, lambda: has_checkpoint(laboratory / "live", "search"))
    run = only_run(laboratory / "live")
    status = read(run / "status.json")
    code, _, err = call("search", run, "--resume")
    assert code == 2
    assert f"{run}: its search is still running (process {process.pid} on {socket.gethostname()} since 20" in err
    assert "; wait for it or stop it" in err
    assert read(run / "status.json") == status
    code, _ = finish(process, signal.SIGINT, signal.SIGCONT)
    assert (code, stage_states(run)) == (130, {"search": "cancelled"})


def test_a_failure_keeps_its_traceback(call: Call, copied: Path) -> None:
    (copied / "retrain" / "log.jsonl").unlink()
    (copied / "retrain" / "log.jsonl").mkdir()
    code, _, err = call("retrain", copied)
    assert code == 2
    assert "retrain/log.jsonl" in err
    assert "Traceback" not in err
    status = read(copied / "status.json")
    assert status["state"] == "failed"
    stage = status["stages"]["retrain"]
    assert stage["state"] == "failed"
    assert stage["error"] in err
    assert stage["traceback"].startswith("Traceback (most recent call last):\n")
    assert "IsADirectoryError: " in stage["traceback"]


def test_a_failed_stage_can_be_gone_on_with(call: Call, copied: Path) -> None:
    shutil.rmtree(copied / "predictions")
    (copied / "predictions").write_text("in the way")
    code, _, _ = call("eval", copied)
    assert (code, stage_states(copied)["eval"]) == (2, "failed")
    (copied / "predictions").unlink()
    code, _, err = call("run", copied, "--resume")
    assert (code, stage_states(copied)["eval"]) == (0, "success"), err
