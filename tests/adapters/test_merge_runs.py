"""``autolora merge`` on runs: classifiers with their names, generators, the real MiniLM, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers

import autolora
from autolora.cli.merge import merge
from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.preflight import load_recipe
from autolora.experiment.retrain import retrain
from autolora.experiment.search import search
from autolora.methods.base import method_of
from autolora.recipe.method import parse_method
from autolora.runs.store import Run
from tests.adapters.merged import WORDS
from tests.laboratory import flip_bit, tiny_run
from tests.methods.support import loaded, logits, write_generation_laboratory
from tests.model.checkpoints import edit_weights

SHORT = ("retrain.steps=4",)


@pytest.fixture(scope="module")
def trained(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Context]:
    return trained_run(laboratory, tmp_path_factory.mktemp("trained"))


def trained_run(place: Path, output: Path) -> tuple[Run, Context]:
    run, context = tiny_run(place, output, "lora:2", *SHORT)
    search(run, context)
    retrain(run, context)
    return run, context


def same_as_run(run: Run, context: Context, folder: Path, kind: str) -> transformers.PreTrainedModel:
    """The merged folder computes what the evaluation of the run does."""
    model: transformers.PreTrainedModel = getattr(transformers, kind).from_pretrained(folder).eval()
    ours, theirs = logits(loaded(run, context), context), logits(model, context)
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-4)
    assert not torch.allclose(theirs, logits(context.model().eval(), context), atol=1e-4)
    return model


def test_a_run_is_merged_with_its_head_and_the_names_of_its_classes(
    trained: tuple[Run, Context], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, context = trained
    merge(tmp_path / "merged", str(run.path))
    out = capsys.readouterr().out
    assert "is in 5 modules of the BertForSequenceClassification" in out  # query and value of two layers, the head
    model = same_as_run(run, context, tmp_path / "merged", "AutoModelForSequenceClassification")
    assert list(model.config.id2label.values()) == list(context.task.names)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "merged")
    sentence = context.splits["validation"][0]["sentence"]
    assert tokenizer(sentence)["input_ids"] == context.tokenizer(sentence)["input_ids"]


def test_the_newest_run_is_meant_where_none_is_named(trained: tuple[Run, Context], tmp_path: Path) -> None:
    run, _ = trained
    merge(tmp_path / "merged", runs=run.path.parents[1])
    assert (tmp_path / "merged" / "model.safetensors").is_file()


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_run_of_a_generator_whose_embeddings_are_tied(kind: str, tmp_path: Path) -> None:
    place = write_generation_laboratory(tmp_path / "laboratory", kind)
    run, context = trained_run(place, tmp_path / "runs")
    autolora.merge(run.path, tmp_path / "merged")
    model = same_as_run(run, context, tmp_path / "merged", "AutoModelForCausalLM")
    assert model.config.tie_word_embeddings is True
    assert len(WORDS) == model.config.vocab_size


def test_methods_whose_result_is_no_change_of_weights_are_refused(laboratory: Path, tmp_path: Path) -> None:
    run, context = tiny_run(laboratory, tmp_path / "runs", "houlsby:2", *SHORT)
    retrain(run, context)
    with pytest.raises(UserError, match=r"cannot be merged: what its method, houlsby, trains is no adapter of PEFT's"):
        autolora.merge(run.path, tmp_path / "merged")
    place = write_generation_laboratory(tmp_path / "laboratory", "llama")
    run, context = tiny_run(place, tmp_path / "runs", "prefix:2", *SHORT)
    retrain(run, context)
    with pytest.raises(UserError, match=r"cannot be merged: PREFIX_TUNING is learned keys and values"):
        autolora.merge(run.path, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_run_before_its_training_says_what_to_do(laboratory: Path, tmp_path: Path) -> None:
    run, _ = tiny_run(laboratory, tmp_path / "runs", "lora:2", *SHORT)
    with pytest.raises(UserError, match=f"has no adapter yet; run: autolora retrain {run.path}"):
        merge(tmp_path / "merged", str(run.path))


def test_a_run_that_was_damaged_or_has_another_base_is_refused(
    trained: tuple[Run, Context], laboratory: Path, tmp_path: Path
) -> None:
    run, _ = trained
    other = Path(shutil.copytree(laboratory / "model", tmp_path / "model"))
    edit_weights(other, lambda tensors: {name: tensor + 0.01 for name, tensor in tensors.items()})
    with pytest.raises(UserError, match="was begun on another model than"):
        autolora.merge(run.path, tmp_path / "merged", model=str(other))
    damaged = Path(shutil.copytree(run.path, tmp_path / "runs" / "tiny" / "damaged"))
    flip_bit(damaged / "adapter" / "adapter_model.safetensors")
    with pytest.raises(UserError, match=r"adapter_model\.safetensors"):
        autolora.merge(damaged, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_bfloat16_base_is_the_one_that_the_run_was_begun_on(laboratory: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(laboratory, tmp_path / "laboratory"))
    edit_weights(place / "model", lambda tensors: {name: tensor.bfloat16() for name, tensor in tensors.items()})
    config = json.loads((place / "model" / "config.json").read_text())
    (place / "model" / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    run, context = trained_run(place, tmp_path / "runs")
    assert autolora.merge(run.path, tmp_path / "small").dtype == "bfloat16"
    assert autolora.merge(run.path, tmp_path / "exact", dtype="float32").dtype == "float32"
    same_as_run(run, context, tmp_path / "exact", "AutoModelForSequenceClassification")


@pytest.mark.usefixtures("minilm")
def test_a_run_of_minilm(tmp_path: Path) -> None:
    recipe = load_recipe(
        Path(autolora.__file__).parents[1] / "recipes" / "quickstart.yaml",
        ["retrain.steps=2", "retrain.batch_size=4", "data.limits.train=40"],
    )
    recipe = recipe.model_copy(update={"method": parse_method("lora:2")})
    run, context = Run.create(tmp_path / "runs", recipe), Context(recipe, show=False)
    search(run, context)
    retrain(run, context)
    found = autolora.merge(run.path, tmp_path / "merged")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(found.path).eval()
    texts = ["the cat sleeps", "sleeps cat the on and again"]
    batch = context.tokenizer(texts, padding=True, return_tensors="pt")
    ours = method_of(run).load(context.model(), context).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, ours(**batch).logits, rtol=0, atol=1e-4)
    assert 4 * found.parameters <= found.size < 4 * found.parameters + 100_000
