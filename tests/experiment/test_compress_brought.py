"""Adapters that a Trainer or a run has made, compressed with data."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.api import resolve
from autolora.experiment.compress import compress_with_data
from autolora.experiment.line import retrain, search
from autolora.experiment.preflight import load_recipe
from autolora.files import file_hash
from autolora.lora.stored import TENSORS, read_config, scaling_in
from autolora.runs.folders import run_of
from autolora.runs.store import Run
from tests.experiment.adapters import logits, recipe_of, stock
from tests.laboratory import flip_bit, tiny_run
from tests.methods.squeezed import write_learner


def test_an_adapter_of_transformers_trainer_with_ranks_of_its_own(tmp_path: Path) -> None:
    context = recipe_of(tmp_path, "classification")
    config = LoraConfig(
        task_type="SEQ_CLS",
        r=4,
        lora_alpha=8,
        use_rslora=True,
        target_modules=["query", "intermediate.dense"],
        rank_pattern={"layer.1.attention.self.query": 6},
    )
    torch.manual_seed(0)
    adapted: Any = get_peft_model(context.model(), config)
    arguments = transformers.TrainingArguments(
        str(tmp_path / "trained"),
        max_steps=12,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        save_strategy="no",
    )
    trainer = transformers.Trainer(
        adapted,
        arguments,
        train_dataset=context.examples("train"),  # type: ignore[arg-type]  # a list will do
        data_collator=lambda rows: context.task.collate(rows, context.tokenizer),
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "adapter"))
    found = compress_with_data(tmp_path / "adapter", context.recipe, 0.5, tmp_path / "small", heal=4)
    full = 6 * 32 + 4 * 32 + 2 * 4 * 48
    assert found.parameters == (full, found.ranks.parameters)
    assert 0 < found.ranks.parameters <= full / 2
    own, written = read_config(tmp_path / "adapter"), read_config(found.output)
    for layer in found.ranks.targets:
        assert scaling_in(written, layer) == pytest.approx(scaling_in(own, layer))
    whole = compress_with_data(tmp_path / "adapter", context.recipe, 1.0, tmp_path / "whole")
    ours, theirs = (logits(stock(each, context), context) for each in (tmp_path / "adapter", whole.output))
    assert torch.allclose(ours, theirs, atol=1e-5)


def ended_run(laboratory: Path, output: Path, *overrides: str) -> Run:
    run, context = tiny_run(laboratory, output, "lora:4", *overrides)
    search(run, context)
    retrain(run, context)
    return run


def test_an_adapter_of_a_run_by_the_runs_own_recipe(laboratory: Path, tmp_path: Path) -> None:
    run = ended_run(laboratory, tmp_path / "runs", "retrain.steps=12")
    adapter = run.path / "adapter"
    assert run_of(run.path) == run_of(adapter) == run.path
    assert run_of(laboratory) is None
    hashes = {path: file_hash(path) for path in run.path.rglob("*") if path.is_file()}
    one, two = (
        compress_with_data(each, run.recipe, 0.25, tmp_path / name)
        for each, name in ((run.path, "one"), (adapter, "two"))
    )
    assert (one.output / TENSORS).read_bytes() == (two.output / TENSORS).read_bytes()
    assert hashes == {path: file_hash(path) for path in run.path.rglob("*") if path.is_file()}, "the run has changed"
    flip_bit(adapter / TENSORS)
    with pytest.raises(UserError, match="is not what was written"):
        compress_with_data(run.path, run.recipe, 0.25, tmp_path / "three")


def test_a_run_on_another_model_is_refused(laboratory: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(laboratory, tmp_path / "laboratory"))
    run = ended_run(folder, tmp_path / "runs", "retrain.steps=4")
    (tmp_path / "other").mkdir()
    write_learner(tmp_path / "other")
    shutil.rmtree(folder / "model")
    shutil.copytree(tmp_path / "other" / "model", folder / "model")
    recipe = load_recipe(run.path / "recipe.yaml")
    with pytest.raises(UserError, match=r"was begun on another model than .* is now, by the weights"):
        compress_with_data(run.path, recipe, 0.5, tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_a_run_without_an_adapter_is_refused(laboratory: Path, tmp_path: Path) -> None:
    run, _ = tiny_run(laboratory, tmp_path / "runs", "lora:2")
    with pytest.raises(UserError, match="has no adapter yet; run: autolora retrain"):
        compress_with_data(run.path, run.recipe, 0.5, tmp_path / "small")


def test_an_adapter_on_planted_truth_is_known_by_its_seed(tmp_path: Path) -> None:
    changes = {"data__limits__train": 40, "data__limits__eval": 20, "method": {"name": "lora", "size": 4}}
    recipe = resolve("planted/mixed", None, None, 1, {**changes, "retrain__epochs": None, "retrain__steps": 3})
    context = Context(recipe, show=False)
    run = Run.create(tmp_path / "runs", recipe)
    for stage in (search, retrain):
        stage(run, context)
    found = compress_with_data(run.path, recipe, 0.5, tmp_path / "small", measure=False)
    assert 0 < found.parameters[1] <= found.parameters[0] / 2
    other = recipe.model_copy(update={"seed": 2})
    with pytest.raises(UserError, match=r"model\.name is planted:.*, and the adapter was trained on planted:"):
        compress_with_data(run.path, other, 0.5, tmp_path / "other")
