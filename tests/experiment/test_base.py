"""A run stays on the pretrained model that it was begun on: weights, tokenizer and architecture are part of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import BertForSequenceClassification

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.evaluate import evaluate
from autolora.experiment.line import STAGES
from autolora.experiment.retrain import retrain
from autolora.experiment.search import search
from autolora.runs.store import Run
from autolora.training.finetune import Finetuning
from tests.laboratory import of_an_earlier_version, tiny_run, write_laboratory
from tests.methods.linked import built_on, interrupting
from tests.model.checkpoints import checkpoint, edit_config, edit_weights

FEW = ("search.steps=2", "retrain.steps=2")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "laboratory"
    folder.mkdir()
    write_laboratory(folder)
    return folder


def reopened(run: Run) -> tuple[Run, Context]:
    again = Run.open(run.path)
    return again, Context(again.recipe, show=False)


def other_weights(model: Path) -> None:
    edit_weights(model, lambda ts: {n: t * 1.001 if "layer.1.attention.self.key.w" in n else t for n, t in ts.items()})


def other_tokenizer(model: Path) -> None:
    path = model / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["cat"], vocabulary["dog"] = vocabulary["dog"], vocabulary["cat"]
    path.write_text(json.dumps(content))


def other_template(model: Path) -> None:
    path = model / "tokenizer.json"
    content = json.loads(path.read_text())
    content["post_processor"]["single"].pop()
    path.write_text(json.dumps(content))


def other_activation(model: Path) -> None:
    edit_config(model, hidden_act="relu")


CHANGES = [
    (other_weights, "another model than .*, by the weights"),
    (other_tokenizer, "by the tokenizer"),
    (other_template, "by the tokenizer"),
    (other_activation, r"by config.json's hidden_act \('relu', and was 'gelu'\)"),
    (lambda model: edit_config(model, num_attention_heads=4), "config.json's num_attention_heads"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
@pytest.mark.parametrize("stage", ["retrain", "eval"])
def test_a_stage_on_another_model_is_refused(
    place: Path, tmp_path: Path, change: Callable[[Path], None], said: str, stage: str
) -> None:
    run, context = tiny_run(place, tmp_path / "runs", "autolora", *FEW)
    for name in list(STAGES)[: list(STAGES).index(stage)]:
        STAGES[name](run, context)
    before = (run.path / "base.json").read_bytes()
    change(place / "model")
    with pytest.raises(UserError, match=said):
        STAGES[stage](*reopened(run))
    assert (run.path / "base.json").read_bytes() == before
    assert not (run.path / "metrics.json").exists()


@pytest.mark.parametrize("stage", ["retrain", "eval"])
def test_what_is_refused_leaves_a_finished_run_as_it_was(place: Path, tmp_path: Path, stage: str) -> None:
    run, context = tiny_run(place, tmp_path / "runs", "lora:2", *FEW)
    for each in STAGES.values():
        each(run, context)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    other_weights(place / "model")
    with pytest.raises(UserError, match="another model than"):
        STAGES[stage](*reopened(run))
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    assert Run.open(run.path).stage_state(stage) == "success"


def test_a_refused_beginning_anew_keeps_the_checkpoint(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, context = tiny_run(place, tmp_path / "runs", "lora:2", "retrain.steps=4", "retrain.checkpoint_every=1")
    search(run, context)
    with interrupting(monkeypatch, Finetuning, "advance", 3):
        retrain(run, context)
    kept = run.path / "retrain" / "checkpoint.safetensors"
    before = kept.read_bytes()
    weights = (place / "model" / "model.safetensors").read_bytes()
    other_weights(place / "model")
    with pytest.raises(UserError, match="another model than"):
        retrain(*reopened(run), anew=True)
    assert kept.read_bytes() == before
    (place / "model" / "model.safetensors").write_bytes(weights)
    steps: list[int] = []
    original = Finetuning.advance
    monkeypatch.setattr(Finetuning, "advance", lambda self, step: steps.append(step) or original(self, step))
    retrain(*reopened(run), anew=True)
    assert steps == [0, 1, 2, 3]


@pytest.mark.parametrize("method", ["houlsby:2", "lora:2"])
def test_resuming_on_other_weights_is_refused(
    place: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, context = tiny_run(place, tmp_path / "runs", method, "retrain.steps=8")
    if method == "lora:2":
        search(run, context)
    with interrupting(monkeypatch, Finetuning, "advance", 6):
        retrain(run, context)
    other_weights(place / "model")
    with pytest.raises(UserError, match="by the weights"):
        retrain(*reopened(run))


def test_the_same_model_elsewhere_and_in_other_files_is_taken(place: Path, tmp_path: Path) -> None:
    run, context = tiny_run(place, tmp_path / "runs", "autolora", *FEW)
    search(run, context)
    retrain(run, context)
    from transformers import AutoModel, AutoTokenizer

    moved = tmp_path / "moved"
    AutoModel.from_pretrained(place / "model").save_pretrained(moved, max_shard_size="20kB")
    assert len(list(moved.glob("*.safetensors"))) > 1
    AutoTokenizer.from_pretrained(place / "model").save_pretrained(moved)
    shutil.rmtree(place / "model")
    run, _ = reopened(run)
    run.recipe = run.recipe.model_copy(update={"model": run.recipe.model.model_copy(update={"name": str(moved)})})
    evaluate(run, Context(run.recipe, show=False))


def test_a_run_of_an_earlier_version_opens_and_says_nothing(place: Path, tmp_path: Path) -> None:
    run, context = tiny_run(place, tmp_path / "runs", "autolora", *FEW)
    search(run, context)
    of_an_earlier_version(run.path)
    (run.path / "base.json").unlink()
    retrain(*reopened(run))
    evaluate(*reopened(run))
    assert not (run.path / "base.json").exists()


def test_a_run_that_builds_on_a_run_on_another_model_is_refused(place: Path, tmp_path: Path) -> None:
    learned, context = tiny_run(place, tmp_path / "runs", "autolora", *FEW)
    search(learned, context)
    other_weights(place / "model")
    run, context = built_on(place, tmp_path / "runs", "lora-matched", learned, overrides=FEW)
    with pytest.raises(UserError, match=f"{learned.path} was begun on another model"):
        search(run, context)


def test_a_damaged_file_is_named(place: Path, tmp_path: Path) -> None:
    run, context = tiny_run(place, tmp_path / "runs", "lora:2", *FEW)
    search(run, context)
    of_an_earlier_version(run.path)
    (run.path / "base.json").write_text('{"weights": 1}')
    with pytest.raises(UserError, match=r"base\.json does not say what the run was begun on"):
        retrain(*reopened(run))


def test_the_head_is_no_part_of_it_where_it_is_drawn(place: Path, tmp_path: Path) -> None:
    """Runs of other seeds, whose heads are other ones, are on the same model."""
    kept = []
    for seed in (1, 2):
        run, context = tiny_run(place, tmp_path / "runs", "lora:2", *FEW, seed=seed)
        search(run, context)
        kept.append((run.path / "base.json").read_bytes())
    assert kept[0] == kept[1]


def test_a_checkpoints_own_head_is_part_of_it_where_it_is_kept(place: Path, tmp_path: Path) -> None:
    shutil.rmtree(place / "model")
    checkpoint(laboratory_of(tmp_path), place / "model", BertForSequenceClassification, num_labels=2)
    edit_config(place / "model", id2label={"0": "0", "1": "1"}, label2id={"0": 0, "1": 1})
    run, context = tiny_run(place, tmp_path / "runs", "lora:2", *FEW)
    search(run, context)
    edit_weights(place / "model", lambda ts: {n: t + 1 if n == "classifier.bias" else t for n, t in ts.items()})
    with pytest.raises(UserError, match="by the weights"):
        retrain(*reopened(run))


def laboratory_of(tmp_path: Path) -> Path:
    folder = tmp_path / "second"
    folder.mkdir()
    write_laboratory(folder)
    return folder
