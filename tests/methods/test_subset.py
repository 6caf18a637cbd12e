"""Full fine-tuning, the head alone, and the biases: what changes, what is saved, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from autolora.errors import UserError
from autolora.experiment.line import evaluate, retrain
from autolora.methods.base import method_of
from autolora.methods.subset import Head, is_bias
from autolora.recipe.method import parse_method
from tests.laboratory import tiny_run
from tests.methods.support import (
    changed,
    loaded,
    trained_run,
    write_generation_laboratory,
)

METHODS = ["full", "head", "bitfit"]
HIDDEN, FEED_FORWARD, LAYERS, LABELS = 32, 64, 2, 2  # of the laboratory's BERT
HEAD = HIDDEN * LABELS + LABELS
# Query, key, value, attention's output, feed-forward in and out, two norms; beside the layers the embeddings' norm and
# the pooler.
BIASES = LAYERS * (4 * HIDDEN + FEED_FORWARD + HIDDEN + 2 * HIDDEN) + HIDDEN + HIDDEN


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_generation_laboratory(tmp_path_factory.mktemp("generation") / "context", request.param)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_goes_to_the_end_and_changes_what_it_trains_and_nothing_else(
    laboratory: Path, tmp_path: Path, method: str
) -> None:
    run, context = trained_run(laboratory, tmp_path, method)
    assert {path.name for path in (run.path / "adapter").iterdir()} == {
        *("weights.safetensors", "method.json", "README.md")
    }
    base = context.model()
    names = [name for name, _ in base.named_parameters()]
    trained = {
        "full": set(names),
        "head": {"classifier.weight", "classifier.bias"},
        "bitfit": {name for name in names if name.endswith(".bias")} | {"classifier.weight"},
    }[method]
    assert set(load_file(run.path / "adapter" / "weights.safetensors")) == trained
    assert changed(base, loaded(run, context)) == trained
    (row,) = evaluate(run, context)
    assert row["examples"] == 23
    assert row["adapter parameters"] == {
        "full": sum(p.numel() for p in base.parameters()) - HEAD,
        "bitfit": BIASES,
    }.get(method, 0)


@pytest.mark.parametrize("method", METHODS)
def test_the_counts_are_those_of_the_closed_form(laboratory: Path, tmp_path: Path, method: str) -> None:
    run, context = trained_run(laboratory, tmp_path, method, "retrain.steps=1")
    counts = run.manifest()["stages"]["retrain"]
    everything = sum(parameter.numel() for parameter in context.model().parameters())
    expected = {"full": everything, "head": HEAD, "bitfit": BIASES + HEAD}[method]
    assert (counts["trainable_parameters"], counts["head_parameters"]) == (expected, HEAD)


def test_tied_embeddings_are_trained_saved_and_loaded_as_one(decoder: Path, tmp_path: Path) -> None:
    run, context = trained_run(decoder, tmp_path, "full")
    base, model = context.model(), loaded(run, context)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight  # type: ignore[operator]
    names = {name for name, _ in base.named_parameters()}
    assert "lm_head.weight" not in names
    assert set(load_file(run.path / "adapter" / "weights.safetensors")) == names
    assert changed(base, model) == names
    counts = run.manifest()["stages"]["retrain"]
    assert counts["trainable_parameters"] == sum(parameter.numel() for parameter in base.parameters())
    assert counts["head_parameters"] == 0
    assert evaluate(run, context)[0]["examples"] == 5


def test_full_fine_tuning_has_a_learning_rate_of_its_own_and_the_others_the_recipes(
    laboratory: Path, tmp_path: Path
) -> None:
    rates = [method_of(tiny_run(laboratory, tmp_path, method)[0]).weights().learning_rate for method in METHODS]
    assert rates == [2e-5, 5e-3, 5e-3]
    asked, _ = tiny_run(laboratory, tmp_path, "full:learning_rate=1e-4")
    assert method_of(asked).weights().learning_rate == 1e-4


def test_a_head_that_the_recipe_names_is_trained_as_a_whole(laboratory: Path, tmp_path: Path) -> None:
    run, context = trained_run(laboratory, tmp_path, "head", "model.head=[classifier, bert.pooler]")
    trained = changed(context.model(), loaded(run, context))
    pooler = {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    assert trained == {"classifier.weight", "classifier.bias"} | pooler
    assert run.manifest()["stages"]["retrain"]["head_parameters"] == HEAD + HIDDEN * HIDDEN + HIDDEN


def test_the_head_of_a_task_that_has_none_is_refused_before_anything_runs(decoder: Path, tmp_path: Path) -> None:
    run, context = tiny_run(decoder, tmp_path, "head")
    with pytest.raises(UserError, match=r"method 'head' trains a task head, and generation has none; leave the method"):
        Head.check_recipe(run.recipe)
    with pytest.raises(UserError, match="generation has none"):
        retrain(run, context)
    assert run.stage_state("retrain") is None


def test_biases_of_a_model_that_has_none_are_refused(tmp_path: Path) -> None:
    decoder = write_generation_laboratory(tmp_path / "context", "llama")
    run, context = tiny_run(decoder, tmp_path / "runs", "bitfit")
    with pytest.raises(UserError, match=r"'bitfit' trains the biases .* \(LlamaForCausalLM\) has none"):
        retrain(run, context)
    assert run.stage_state("retrain") == "failed"


def test_biases_of_gpt2_are_trained_for_generation(tmp_path: Path) -> None:
    decoder = write_generation_laboratory(tmp_path / "context", "gpt2")
    run, context = trained_run(decoder, tmp_path / "runs", "bitfit")
    base = context.model()
    biases = {name for name, _ in base.named_parameters() if name.endswith(".bias")}
    assert changed(base, loaded(run, context)) == biases
    assert len(biases) == 2 * 6 + 1  # attention and feed-forward in and out, two norms; the last norm


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bert.encoder.layer.0.output.LayerNorm.bias", True),
        ("deberta.encoder.layer.0.attention.self.q_bias", True),
        ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", False),
        ("classifier.weight", False),
    ],
)
def test_a_bias_is_told_by_its_name(name: str, expected: bool) -> None:
    assert is_bias(name) is expected


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("lacks one", r"classifier.bias is missing"),
        ("has another", r"bert.strange is not trained by this method"),
        ("has another shape", r"classifier.bias has the shape \(5,\), but should have \(2,\)"),
        ("is no file of weights", r"cannot be loaded \("),
        ("is not there", r"cannot be loaded \("),
    ],
)
def test_weights_that_do_not_fit_are_refused(laboratory: Path, tmp_path: Path, fault: str, message: str) -> None:
    run, context = trained_run(laboratory, tmp_path, "head", "retrain.steps=1")
    file = run.path / "adapter" / "weights.safetensors"
    tensors = load_file(file)
    if fault == "lacks one":
        del tensors["classifier.bias"]
    elif fault == "has another":
        tensors["bert.strange"] = torch.zeros(1)
    elif fault == "has another shape":
        tensors["classifier.bias"] = torch.zeros(5)
    save_file(tensors, file)
    if fault == "is no file of weights":
        file.write_bytes(b"no weights")
    elif fault == "is not there":
        file.unlink()
    with pytest.raises(UserError, match=message) as error:
        loaded(run, context)
    assert str(file) in str(error.value)
    assert str(error.value).endswith(f"write it anew with: autolora retrain {run.path}")


def test_weights_of_another_method_are_refused(laboratory: Path, tmp_path: Path) -> None:
    run, context = trained_run(laboratory, tmp_path, "head", "retrain.steps=1")
    record = json.loads((run.path / "adapter" / "method.json").read_text(encoding="utf-8"))
    assert record["method"] == "head"
    assert record["base_model"].endswith("model")
    other = run.recipe.model_copy(update={"method": parse_method("bitfit")})
    run.recipe = other
    with pytest.raises(UserError, match=r"method.json is about .*'head'.*, but this run's recipe about .*'bitfit'"):
        loaded(run, context)
