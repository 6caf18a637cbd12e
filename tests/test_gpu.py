"""On a CUDA device: the quickstart through the command line, and the estimators against `exact`."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch

from autolora.bilevel.estimators import central_difference, exact, forward_difference
from autolora.training.compute import Compute
from tests.bilevel.tiny_stage import cosine, relative_error, second_order, tiny_stage
from tests.model.tiny import ARCHITECTURES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
ESTIMATORS = ["forward_difference", "central_difference", "first_order"]


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> Path:
    """A whole run of the quickstart, without asking for the GPU or for bfloat16; its folder."""
    output = tmp_path_factory.mktemp("runs")
    command = [sys.executable, "-m", "autolora", "run", "quickstart", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stderr
    (run,) = (output / "quickstart").iterdir()
    return run


def test_the_quickstart_uses_the_gpu_unasked(quickstart: Path) -> None:
    manifest = json.loads((quickstart / "manifest.json").read_text(encoding="utf-8"))
    assert {manifest["stages"][stage]["device"]["type"] for stage in ("search", "retrain", "eval")} == {"cuda"}
    ranks = json.loads((quickstart / "search" / "ranks.json").read_text(encoding="utf-8"))["ranks"]
    assert len(ranks) == 12


def test_the_adapter_of_the_quickstart_gives_the_same_logits_on_the_cpu(quickstart: Path) -> None:
    from peft import PeftModel

    from autolora.context.base import Context
    from autolora.experiment.preflight import load_recipe

    cpu = Compute("float32", cpu=True)
    context = Context(load_recipe(quickstart / "recipe.yaml"), cpu, show=False)
    model = PeftModel.from_pretrained(context.model(), quickstart / "adapter").eval()
    split = context.recipe.data.splits.eval[0]
    examples = context.examples(split)[:64]
    collate = partial(context.task.collate, tokenizer=context.tokenizer)
    with torch.inference_mode():
        found = [
            context.task.predict(model, collate([example]), context.tokenizer)[0]["logits"] for example in examples
        ]
    lines = (quickstart / "predictions" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    truth = [json.loads(line)["logits"] for line in lines[: len(found)]]
    assert torch.allclose(torch.tensor(found), torch.tensor(truth), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_differences_agree_with_exact(name: str) -> None:
    _, stage = tiny_stage(name, dropout=0.1, device="cuda", inner_step="plain", inner_learning_rate=0.1)
    problem, inner = stage.problem(0), stage.inner_step(0)
    truth = second_order(problem, inner, exact.estimate(problem, inner))
    for module, tolerance in ((central_difference, 1e-3), (forward_difference, 0.03)):
        found = second_order(problem, inner, module.estimate(problem, inner, 0.001))
        assert relative_error(found, truth) < tolerance
        assert cosine(found, truth) > 0.999


@pytest.mark.parametrize("estimator", [central_difference, forward_difference])
def test_in_bfloat16_differences_agree_with_exact_in_float32(estimator: object) -> None:
    settings = {"inner_step": "plain", "inner_learning_rate": 0.1, "dropout": 0.1, "dtype": torch.float32}
    _, full = tiny_stage(device="cuda", **settings)  # type: ignore[arg-type]
    problem, inner = full.problem(0), full.inner_step(0)
    truth = second_order(problem, inner, exact.estimate(problem, inner))
    bf16 = Compute("bfloat16")
    _, half = tiny_stage(device="cuda", compute=bf16, **settings)  # type: ignore[arg-type]
    problem = half.problem(0)
    found = second_order(problem, inner, estimator.estimate(problem, inner, 0.01))  # type: ignore[attr-defined]
    assert relative_error(found, truth) < 0.15
    assert cosine(found, truth) > 0.99


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_step_does_not_wait_for_the_device(estimator: str) -> None:
    # DeBERTa's attention mask is made without asking the device whether anything is hidden.
    _, stage = tiny_stage(
        "deberta-v2", dtype=torch.float32, dropout=0.1, device="cuda", estimator=estimator, double_backward=False
    )
    stage.advance(0)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            stage.advance(1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [str(w.message) for w in caught if "called a synchronizing CUDA operation" in str(w.message)] == []
