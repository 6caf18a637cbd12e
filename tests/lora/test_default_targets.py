"""Where LoRA goes if a recipe does not say: PEFT's layers of the architecture, or all linear ones of the backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as TABLE

from autolora.context.base import Context
from autolora.experiment.line import run_stages
from autolora.experiment.preflight import load_recipe
from autolora.lora.targets import target_modules
from autolora.runs.store import Run
from tests.model.folders import write_model
from tests.model.recipes import made, write_recipe

AUTO = {"classification": "AutoModelForSequenceClassification", "generation": "AutoModelForCausalLM"}


def targets(folder: Path, kind: str, task: str, **config: Any) -> list[str]:
    """Full names of the layers that get LoRA."""
    own = made(folder, task, write_model(folder / "model", kind, AUTO[task], **config))
    model = own.model()
    return list(target_modules(model, own.targets(model)))


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "gpt2", "opt", "bloom", "llama", "mixtral"])
def test_peft_says_where_it_knows_the_architecture(kind: str, tmp_path: Path) -> None:
    found = targets(tmp_path, kind, "classification")
    assert {name.rpartition(".")[2] for name in found} == set(TABLE[kind])
    assert len(found) == 2 * len(TABLE[kind])


def test_elsewhere_it_is_every_linear_layer_of_the_backbone(tmp_path: Path) -> None:
    found = targets(tmp_path, "distilbert", "classification")
    ends = ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2"]
    assert found == [f"distilbert.transformer.layer.{i}.{end}" for i in (0, 1) for end in ends]


def test_the_output_embeddings_are_no_part_of_the_backbone(tmp_path: Path) -> None:
    found = targets(tmp_path, "phi3", "generation")
    ends = {name.rpartition(".")[2] for name in found}
    assert ends == {"o_proj", "qkv_proj", "gate_up_proj", "down_proj"}


def test_the_default_is_said_once_written_down_and_kept_for_the_retraining(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path / "model", "distilbert", AUTO["classification"])
    recipe = load_recipe(write_recipe(tmp_path, "classification", model))
    run = Run.create(tmp_path / "runs", recipe)
    run_stages(run, Context(recipe))
    said = capsys.readouterr().err
    line = "model.target_modules: q_lin, k_lin, v_lin, out_lin, lin1, lin2 (every linear layer of the backbone"
    assert said.count(line) == 1
    noted = run.manifest()["stages"]["search"]["target_modules"]
    assert list(run.ranks()) == noted
    assert len(noted) == 12
