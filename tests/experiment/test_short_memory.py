"""A run that runs out of memory: what it says, and that nothing is lost."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from autolora.context.base import Context
from autolora.errors import FAILED, RunError
from autolora.experiment.evaluate import evaluate
from autolora.experiment.line import run_stages
from autolora.experiment.retrain import retrain
from autolora.experiment.search import search
from autolora.files import file_hash
from autolora.runs.store import Run
from autolora.training.checkpoint import read_record
from tests.laboratory import tiny_run

SHORT = ("search.steps=8", "retrain.steps=8")
FULL = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 15.77 GiB"


class Shortage:
    """Memory that is short at one call of a method of a task, and not before it and not after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, of: Any, name: str, call: int, error: Exception) -> None:
        self.calls = 0
        original = getattr(of, name)

        def method(*given: Any, **named: Any) -> Any:
            self.calls += 1
            if self.calls == call:
                raise error
            return original(*given, **named)

        monkeypatch.setattr(of, name, method)


def message(stage: Callable[[Run, Context], object], run: Run, context: Context, name: str) -> str:
    """What the failed stage says, which is what its status keeps."""
    with pytest.raises(RunError) as failure:
        stage(run, context)
    kept = run.status()["stages"][name]
    assert (kept["state"], kept["error"]) == ("failed", str(failure.value))
    assert "Error" in kept["traceback"]
    return str(failure.value)


def sizes(text: str) -> tuple[float, dict[str, float]]:
    """Of the message, in MiB: what the stage takes, and what each change would come to."""
    scale = {"MiB": 1.0, "GiB": 1024.0}
    found = re.search(r"about ([\d.]+) ([MG]iB) for", text)
    assert found
    changes = re.findall(r"^- (.+): ([\d.]+) ([MG]iB)$", text, re.MULTILINE)
    return float(found[1]) * scale[found[2]], {name: float(size) * scale[unit] for name, size, unit in changes}


def test_a_search(laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, context = tiny_run(laboratory, tmp_path, "autolora", *SHORT)
    losses = 4 * 5 + 2  # of a step: two of D_tr and of V', one of D_val each; central differences take four passes
    Shortage(monkeypatch, context.task, "loss", losses, torch.OutOfMemoryError(FULL))
    text = message(search, run, context, "search")
    found = re.match(
        r"search: memory was short at step (\d+) of 8, with 6 examples of (\d+) tokens in a pass \(Out", text
    )
    assert found
    assert int(found[1]) > 4
    assert FULL in text
    now, changes = sizes(text)
    assert changes["search.gradient_accumulation: 1 -> 2 (smaller pieces, the same batch)"] < now
    quarter = changes["search.gradient_accumulation: 1 -> 4 (smaller pieces, the same batch)"]
    assert quarter < changes["search.gradient_accumulation: 1 -> 2 (smaller pieces, the same batch)"]
    assert f"data.max_length: {int(found[2]) // 2}" in changes
    assert list(changes.values()) == sorted(changes.values())
    assert re.search(r"has [\d,]+ parameters, and 1,024 of LoRA at rank 4; base in float32", text)
    step = read_record(run.path / "search" / "checkpoint.safetensors")["step"]
    assert f"its checkpoint of step {step} is kept" in text
    assert f"autolora memory {run.path}\n" in text  # the run: its recipe may be a file's, and changed by --set
    resumed = Run.open(run.path)
    run_stages(resumed, Context(resumed.recipe, show=False))
    whole, context = tiny_run(laboratory, tmp_path / "whole", "autolora", *SHORT)
    run_stages(whole, context)
    for name in ("search/ranks.json", "adapter/adapter_model.safetensors", "metrics.json"):
        assert file_hash(run.path / name) == file_hash(whole.path / name)


def test_a_retraining_that_had_no_checkpoint_goes_on_in_smaller_pieces(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, context = tiny_run(laboratory, tmp_path, "autolora", *SHORT)
    search(run, context)
    ranks = file_hash(run.path / "search" / "ranks.json")
    Shortage(
        monkeypatch, context.task, "loss", 2, RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")
    )
    text = message(retrain, run, context, "retrain")
    assert text.startswith("retrain: memory was short at step 2 of 8, with 6 examples of ")
    assert "the machine has " in text
    assert "there is no checkpoint of retrain yet, so that its settings may change in this run" in text
    assert f": autolora retrain {run.path} --set" in text
    assert "retrain.gradient_accumulation: 1 -> 2" in text
    smaller = run.recipe.retrain.model_copy(update={"gradient_accumulation": 2})
    run.recipe = run.recipe.model_copy(update={"retrain": smaller})
    retrain(run, Context(run.recipe, show=False), anew=True)
    assert run.stage_state("retrain") == "success"
    assert file_hash(run.path / "search" / "ranks.json") == ranks


def test_measuring_fisher_information(laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, context = tiny_run(laboratory, tmp_path, "squeeze:budget=rank=1", *SHORT)
    Shortage(monkeypatch, context.task, "sampled_loss", 1, MemoryError())
    text = message(search, run, context, "search")
    assert text.startswith("search: memory was short while Fisher information was measured, with 6 examples of ")
    assert "retrain.gradient_accumulation: 1 -> 2" in text


def test_an_evaluation(laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, context = tiny_run(laboratory, tmp_path, "lora:2", *SHORT)
    search(run, context)
    retrain(run, context)
    Shortage(monkeypatch, context.task, "predict", 3, torch.OutOfMemoryError(FULL))
    text = message(evaluate, run, context, "eval")
    assert re.match(r"eval: memory was short with 4 examples of \d+ tokens in a pass ", text)
    now, changes = sizes(text)
    assert changes["eval.batch_size: 4 -> 1"] < changes["eval.batch_size: 4 -> 2"] < now
    assert [name for name in changes if not name.startswith("eval.")] == []  # the others are settled by the training
    smaller = run.recipe.eval.model_copy(update={"batch_size": 2})
    run.recipe = run.recipe.model_copy(update={"eval": smaller})
    evaluate(run, Context(run.recipe, show=False))
    assert run.status()["state"] == "success"


def test_where_nothing_can_be_computed_the_shortage_is_still_said(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, context = tiny_run(laboratory, tmp_path, "lora:2", *SHORT)
    search(run, context)
    Shortage(monkeypatch, context.task, "loss", 1, torch.OutOfMemoryError(FULL))
    monkeypatch.setattr("autolora.experiment.short_memory.estimate", lambda *given: {}["nothing"])
    text = message(retrain, run, context, "retrain")
    assert "memory was short at step 1 of 8" in text
    assert "could not be computed here (KeyError" in text


LIMITED = """
import resource, sys
import autolora.experiment.retrain, autolora.experiment.short_memory  # what is imported later would be short, too
from autolora.tasks.classification import Classification

of = Classification.loss
def limited(self, *given, **named):
    import torch
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
    try:
        torch.zeros(256 << 20, dtype=torch.uint8)  # as a pass of a larger model would take
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return of(self, *given, **named)

Classification.loss = limited
from autolora.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of a process's memory is Linux's here")
def test_a_real_shortage_on_the_command_line(laboratory: Path, tmp_path: Path) -> None:
    command = [
        "run",
        str(laboratory / "tiny.yaml"),
        "--set",
        "method.name=lora",
        "--set",
        "method.size=2",
        "--output",
        str(tmp_path),
    ]
    found = subprocess.run([sys.executable, "-c", LIMITED, *command], capture_output=True, text=True, timeout=300)
    assert found.returncode == FAILED, found.stderr
    said = " ".join(found.stderr.split())
    assert "the run failed: retrain: memory was short at step 1 of 30, with 6 examples of " in said
    assert "allocate memory" in said
    assert "retrain.gradient_accumulation: 1 -> 2" in said
    assert "Traceback" not in found.stderr
