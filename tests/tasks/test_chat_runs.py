"""Whole runs on conversations: search, squeeze, evaluation; packed as unpacked, resumed as uninterrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.data_recipe import data_recipe
from autolora.experiment.line import run_stages
from autolora.experiment.preflight import load_recipe
from autolora.experiment.stored_adapter import read_stored
from autolora.methods.base import method_class
from autolora.recipe.method import parse_method
from autolora.runs.store import Run
from autolora.training.finetune import Finetuning
from tests.chat_tokenizers import save_model
from tests.methods.linked import interrupting, reopened

RECIPE = """\
task: chat
model: {name: ./model, dtype: float32, target_modules: [q_proj, v_proj, down_proj]}
data: {path: ., max_length: 160}
search: {steps: 2, batch_size: 4, rank: 3, estimator: first_order, lora_dropout: 0}
ranks: {examples: 8}
retrain: {steps: 6, batch_size: 4, log_every: 1, checkpoint_every: 2, lora_dropout: 0, weights: {learning_rate: 1e-2}}
eval: {metrics: [rouge_l], batch_size: 3, generation: {max_new_tokens: 5}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("chat-runs")
    save_model(made / "model", "gemma")
    for split, count in {"train": 12, "validation": 4}.items():
        rows = []
        for i in range(count):
            turns = [{"role": "user", "content": f"{split} {i}?"}, {"role": "assistant", "content": "ab" * (i % 3 + 1)}]
            more = [{"role": "user", "content": "And?"}, {"role": "assistant", "content": "c"}]
            rows.append({"messages": [*turns, *(more * (i % 2))]})
        (made / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (made / "own.yaml").write_text(RECIPE)
    return made


def run_of(folder: Path, output: Path, method: str, *overrides: str) -> tuple[Run, Context]:
    recipe = load_recipe(folder / "own.yaml", overrides, seed=3)
    recipe = recipe.model_copy(update={"method": parse_method(method)})
    return Run.create(output, recipe), Context(recipe, show=False)


def losses(run: Run) -> list[float]:
    """Of every step of the retraining."""
    (log,) = (run.path / "retrain").glob("*.jsonl")
    return [json.loads(line)["train_loss"] for line in log.read_text().splitlines()]


@pytest.mark.parametrize("method", ["autolora", "squeeze:k=3:budget=0.5"])
def test_packed_runs_learn_what_unpacked_ones_do(folder: Path, tmp_path: Path, method: str) -> None:
    found = []
    for packing in ("true", "false"):
        run, context = run_of(folder, tmp_path, method, f"data.packing={packing}", "retrain.steps=4")
        run_stages(run, context)
        found.append((losses(run), run.ranks()))
    (packed, ranks), (unpacked, others) = found
    assert packed == pytest.approx(unpacked, rel=1e-4)
    assert dict(ranks) == dict(others)
    assert (run.path / "metrics.json").is_file()


def test_what_looks_at_a_mask_has_a_row_for_each_example(folder: Path, tmp_path: Path) -> None:
    run, context = run_of(folder, tmp_path, "lora:2", "data.packing=true")
    examples, settings = context.examples("train"), run.recipe.retrain
    (padded,) = context.stream(examples, settings, "eva", padded=True).at(0).micro
    (packed,) = context.stream(examples, settings, "eva").at(0).micro
    assert padded["attention_mask"].shape == padded["input_ids"].shape
    assert len(padded["input_ids"]) == 4 > len(packed["input_ids"])
    assert "attention_mask" not in packed


def test_a_packed_run_that_is_interrupted_ends_as_one_that_is_not(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, context = run_of(folder, tmp_path / "whole", "lora:2", "data.packing=true")
    run_stages(whole, context)
    run, context = run_of(folder, tmp_path / "stopped", "lora:2", "data.packing=true")
    with interrupting(monkeypatch, Finetuning, "advance", 4):
        run_stages(run, context)
    again, context = reopened(run)
    run_stages(again, context)
    assert losses(again) == losses(whole)
    assert weights(again).keys() == weights(whole).keys()
    found = data_recipe(
        read_stored(whole.path / "adapter"), folder / "train.jsonl", task="chat", model=f"{folder}/model"
    )
    assert (found.data.columns, found.data.label) == (("messages",), "messages")
    assert all(torch.equal(weights(again)[name], tensor) for name, tensor in weights(whole).items())


def weights(run: Run) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(run.path / "adapter" / "adapter_model.safetensors")


def test_a_prefix_is_refused_with_packing(folder: Path, tmp_path: Path) -> None:
    run, _ = run_of(folder, tmp_path, "prefix", "data.packing=true")
    with pytest.raises(UserError, match=r"data.packing: method 'prefix' puts one prefix before each row"):
        method_class("prefix").check_recipe(run.recipe)


def test_predictions_end_where_the_turn_ends(folder: Path, tmp_path: Path) -> None:
    """Gemma's turns end with a token that is not its end of sequence."""
    run, context = run_of(folder, tmp_path, "lora:8", "retrain.steps=60", "retrain.weights.learning_rate=3e-2")
    run_stages(run, context)
    (file,) = (run.path / "predictions").glob("*.jsonl")
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert records[0]["references"] == ["ab"]
    assert [record["prediction"] for record in records if len(record["input"]) == 3] == ["c", "c"]
