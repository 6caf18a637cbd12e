"""Interrupted runs: what a signal leaves behind, and that going on gives the bytes of a run that nothing interrupted."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.cli.support import autolora, contents, finish, freeze_when, only_run, read, stage_states, start, succeed


def checkpointed_step(run: Path, stage: str) -> int:
    with safe_open(run / stage / "checkpoint.safetensors", framework="pt") as file:
        return int(json.loads(file.metadata()["record"])["step"])


def has_checkpoint(output: Path, stage: str, after: int = 0) -> bool:
    found = list(output.glob(f"tiny/*/{stage}/checkpoint.safetensors"))
    return bool(found) and checkpointed_step(found[0].parents[1], stage) > after


@pytest.fixture(scope="module")
def interrupted(laboratory: Path) -> Path:
    """A run like `finished`, interrupted four times: SIGTERM and kill -9 in the search, kill -9 and SIGTERM in the
    retraining, and gone on with by naming the recipe, then the run, then no target at all."""
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
    refused = autolora("retrain", run, "--resume", cwd=laboratory)
    assert refused.returncode == 2
    assert f"{run}: its retrain is still running (process {process.pid}); wait for it or stop it" in refused.stderr
    code, _ = finish(process, signal.SIGKILL)
    assert (code, stage_states(run)) == (-signal.SIGKILL, {"search": "success", "retrain": "running"})
    assert not (run / "adapter").exists()

    done = checkpointed_step(run, "retrain")
    process = start("retrain", "--resume", "--output", output, cwd=laboratory)
    freeze_when(process, lambda: has_checkpoint(output, "retrain", after=done))
    code, _ = finish(process, signal.SIGTERM, signal.SIGCONT)
    assert (code, stage_states(run)) == (130, {"search": "success", "retrain": "cancelled"})

    succeed("run", "tiny.yaml", "--resume", *options, cwd=laboratory)
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


def test_a_search_that_is_resumed_with_other_settings_is_refused_and_can_still_be_resumed(
    copied: Path, laboratory: Path
) -> None:
    unfinish(copied, "search")
    recipe = (copied / "recipe.yaml").read_bytes()
    refused = autolora("search", copied, "--resume", "--set", "search.weights.learning_rate=1e-2", cwd=laboratory)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "start a new run" in refused.stderr
    assert (copied / "recipe.yaml").read_bytes() == recipe
    succeed("search", copied, "--resume", cwd=laboratory)


def unfinish(run: Path, stage: str) -> None:
    """Make a finished stage look cancelled just before its end."""
    status = read(run / "status.json")
    status["stages"] = {stage: {"state": "cancelled", "at": "2025-01-01T00:00:00+00:00"}}
    (run / "status.json").write_text(json.dumps(status), encoding="utf-8")
    (run / stage / "ranks.json").unlink(missing_ok=True)
    shutil.rmtree(run / "adapter", ignore_errors=True)
