"""Lines of two processes, with a whole base on each and with one that is shared out, against one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.experiment import several
from tests.experiment.small_llama import write_llama

LOGS = ("search/log.jsonl", "retrain/log.jsonl")
# All that a line computes: whatever else lies in a run says when it was made, and by how many.
FILES = (
    *LOGS,
    "search/ranks.json",
    "search/evidence.safetensors",
    "search/head.safetensors",
    "adapter/adapter_model.safetensors",
    "adapter/adapter_config.json",
    "adapter/config.json",
    "retrain/checkpoint.safetensors",
    "predictions/validation.jsonl",
    "metrics.json",
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (folder := tmp_path_factory.mktemp("several")).mkdir(exist_ok=True)
    return write_llama(folder)


@pytest.fixture(scope="module")
def output(recipe: Path) -> Path:
    """What two processes have made."""
    several.launch(recipe, folder := recipe.parent / "runs")
    return folder


@pytest.fixture(scope="module")
def alone(recipe: Path, output: Path) -> Path:
    """The same of one process, in the same places."""
    folder = output / "alone"
    for name in several.LINES:
        several.line(*several.made(recipe, folder, name))
    return folder


def run_of(folder: Path, name: str) -> Path:
    (run,) = (folder / name / "own").iterdir()
    return run


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal to 1e-5 of the largest value of each tensor, and of one at least."""
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        difference = (tensor.double() - expected[name].double()).abs().max()
        assert difference <= 1e-5 * max(1.0, float(expected[name].abs().max())), name


@pytest.mark.parametrize("name", several.LINES)
def test_a_shared_base_gives_the_bytes_of_a_whole_one(name: str, output: Path) -> None:
    shared, whole = run_of(output / "shared", name), run_of(output / "whole", name)
    for file in FILES:
        assert (shared / file).read_bytes() == (whole / file).read_bytes(), file


def test_a_resumed_line_with_a_shared_base_is_the_uninterrupted_one(output: Path) -> None:
    resumed, whole = run_of(output / "resumed", "autolora"), run_of(output / "shared", "autolora")
    for file in FILES:
        assert (resumed / file).read_bytes() == (whole / file).read_bytes(), file


@pytest.mark.parametrize("kind", ["whole", "shared"])
def test_two_processes_have_the_gradients_of_one(kind: str, recipe: Path, output: Path, tmp_path: Path) -> None:
    found = load_file(output / kind / several.GRADIENTS)
    expected = several.first_gradients(several.made(recipe, tmp_path, "autolora")[1])
    assert any(tensor.abs().max() > 1e-3 for name, tensor in found.items() if name.startswith("selection"))
    close(found, expected)


@pytest.mark.parametrize("name", several.LINES)
@pytest.mark.parametrize("kind", ["whole", "shared"])
def test_two_processes_find_the_ranks_losses_and_evidence_of_one(
    name: str, kind: str, output: Path, alone: Path
) -> None:
    mine, other = run_of(output / kind, name), run_of(alone, name)
    ranks = [json.loads((run / "search" / "ranks.json").read_text(encoding="utf-8")) for run in (mine, other)]
    assert ranks[0]["ranks"] == ranks[1]["ranks"]
    assert len(set(ranks[0]["ranks"].values())) > 1
    for file in LOGS:
        for record, expected in zip(records(mine / file), records(other / file), strict=True):
            losses = [key for key in expected if "loss" in key]
            assert losses
            assert [record[key] for key in losses] == pytest.approx([expected[key] for key in losses], abs=1e-5)
    found, expected_evidence = (load_file(run / "search" / "evidence.safetensors") for run in (mine, other))
    invariant = [key for key in expected_evidence if "sigma" in key]
    assert invariant
    close({k: found[k] for k in invariant}, {k: expected_evidence[k] for k in invariant})


@pytest.mark.parametrize("name", several.LINES)
def test_the_adapter_of_a_shared_base_is_whole_and_loads_on_a_stock_model(
    name: str, recipe: Path, output: Path, alone: Path
) -> None:
    ids = torch.tensor([[3, 4, 5, 6, 7]])
    logits = []
    for run in (run_of(output / "shared", name), run_of(alone, name)):
        base = AutoModelForCausalLM.from_pretrained(recipe.parent / "model", dtype=torch.float32)
        plain = base(ids).logits
        adapted = PeftModel.from_pretrained(base, run / "adapter").eval()
        logits.append(adapted(ids).logits.detach())
        assert (logits[-1] - plain).abs().max() > 1e-3
        assert json.loads((run / "adapter" / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert torch.allclose(*logits, atol=1e-4)
    manifest = json.loads((run_of(output / "shared", name) / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["stages"]["retrain"]["processes"] == 2
