"""Prefix tuning: the loss and what is generated against computations by hand, what is kept, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.evaluation.predict import predict
from autolora.experiment.line import evaluate, retrain
from autolora.methods.base import method_of
from autolora.methods.prefix import HIDDEN, Prefix
from autolora.training.compute import Compute
from tests.laboratory import tiny_run
from tests.methods.support import (
    adapted,
    changed,
    loaded,
    logits,
    resumed_run,
    trained_and_loaded_logits,
    trained_run,
    write_generation_laboratory,
)

LAYERS, SIZE = 2, 3
KEYS = {"gpt2": (2, 8), "llama": (2, 4)}  # heads of keys and values, and their width


@pytest.fixture(scope="module", params=list(KEYS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def decoder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_generation_laboratory(tmp_path_factory.mktemp("generation") / "context", kind)


def by_hand(base: Any, prefix: Tensor, kind: str, ids: Tensor) -> Tensor:
    """Logits (1, tokens, words) of one unpadded sequence after a prefix (tokens, layers * 2 * heads * width)."""
    heads, width = KEYS[kind]
    parts = prefix.view(len(prefix), LAYERS, 2, heads, width).permute(1, 2, 3, 0, 4)[:, :, None]
    cache = DynamicCache([(keys, values) for keys, values in parts])
    positions = torch.arange(len(prefix), len(prefix) + ids.shape[1])[None]
    found: Tensor = base(input_ids=ids, past_key_values=cache, position_ids=positions).logits
    return found


def prefix_of(model: Any) -> Tensor:
    """PEFT's own function for it knows only a prefix that is being trained, made by the network."""
    encoder = model.prompt_encoder["default"]
    kept: Tensor = encoder.embedding.weight
    return encoder(torch.arange(len(kept))) if hasattr(encoder, "transform") else kept


@torch.no_grad()
def test_the_loss_is_that_of_the_outputs_after_the_prefix(kind: str, decoder: Path, tmp_path: Path) -> None:
    run, context = tiny_run(decoder, tmp_path, f"prefix:{SIZE}")
    model, base = adapted(run, context), context.model().eval()
    examples = context.examples("train")
    assert len({len(example["input_ids"]) for example in examples}) > 1  # some are padded
    found = float(context.task.loss(model, context.task.collate(examples, tokenizer=context.tokenizer)))  # type: ignore[arg-type]
    truth, without = 0.0, 0.0
    for example in examples:
        ids = torch.tensor([example["input_ids"]])
        targets = ids[0, example["prompt"] :]
        outputs = by_hand(base, prefix_of(model), kind, ids)[0, example["prompt"] - 1 : -1]
        truth += float(F.cross_entropy(outputs, targets, reduction="sum"))
        plain = base(input_ids=ids).logits[0, example["prompt"] - 1 : -1]
        without += float(F.cross_entropy(plain, targets, reduction="sum"))
    assert found == pytest.approx(truth, rel=1e-5)
    assert abs(without - truth) > 0.1  # the prefix matters


def test_what_is_generated_goes_on_after_the_prefix_whatever_the_padding(
    kind: str, decoder: Path, tmp_path: Path
) -> None:
    run, context = trained_run(decoder, tmp_path, f"prefix:{SIZE}", "eval.generation.beams=1")
    model, base = loaded(run, context), context.model().eval()
    examples = context.examples("validation")
    assert len({len(example["input_ids"]) for example in examples}) > 1
    batch = context.task.collate(examples, tokenizer=context.tokenizer)
    with torch.no_grad():
        found = context.task.predict(model, batch, context.tokenizer)  # type: ignore[arg-type]
    for example, record in zip(examples, found, strict=True):
        ids = torch.tensor([example["input_ids"]])
        for _ in range(context.recipe.eval.generation.max_new_tokens):
            best = by_hand(base, prefix_of(model), kind, ids)[:, -1:].argmax(-1)
            ids = torch.cat([ids, best], dim=1)
            if int(best) == context.tokenizer.eos_token_id:
                break
        text = context.tokenizer.decode(ids[0, len(example["input_ids"]) :], skip_special_tokens=True)
        assert record["prediction"] == " ".join(text.split())
    assert any(record["prediction"] for record in found)


def test_beams_find_the_same_whatever_the_padding(decoder: Path, tmp_path: Path) -> None:
    run, context = trained_run(decoder, tmp_path, f"prefix:{SIZE}", "eval.generation.beams=3")
    model = loaded(run, context)

    def outputs(batch_size: int) -> list[Any]:
        cpu = Compute("float32", cpu=True)
        settings = {"tokenizer": context.tokenizer, "batch_size": batch_size, "compute": cpu}
        made = context.task
        return predict(
            model, made, context.examples("validation"), lambda e: made.collate(e, context.tokenizer), **settings
        )

    assert outputs(1) == outputs(5)


def test_a_run_goes_to_the_end_and_changes_nothing_but_the_prefix(kind: str, decoder: Path, tmp_path: Path) -> None:
    run, context = trained_run(decoder, tmp_path, f"prefix:{SIZE}")
    base, model = context.model(), loaded(run, context)
    assert isinstance(model, PeftModel)
    assert changed(base, model.get_base_model()) == set()
    assert not torch.equal(prefix_of(model), prefix_of(adapted(run, context)))
    (row,) = evaluate(run, context)
    heads, width = KEYS[kind]
    assert row["examples"] == 5
    assert row["adapter parameters"] == SIZE * LAYERS * 2 * heads * width


@pytest.mark.parametrize("method", ["prefix", f"prefix:{SIZE}"])
def test_the_counts_are_those_of_the_closed_form(kind: str, decoder: Path, tmp_path: Path, method: str) -> None:
    run, _ = trained_run(decoder, tmp_path, method, "retrain.steps=1")
    heads, width = KEYS[kind]
    size, one = (SIZE if ":" in method else 5), heads * width
    counts = run.manifest()["stages"]["retrain"]
    assert (counts["trainable_parameters"], counts["head_parameters"]) == (size * LAYERS * 2 * one, 0)
    network = (one * HIDDEN + HIDDEN) + (HIDDEN * LAYERS * 2 * one + LAYERS * 2 * one)
    assert counts["parameters_in_training"] == size * one + network
    (kept,) = load_file(run.path / "adapter" / "adapter_model.safetensors").values()
    assert kept.numel() == counts["trainable_parameters"]


def test_what_is_loaded_is_what_was_trained(decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, context = tiny_run(decoder, tmp_path, f"prefix:{SIZE}")
    truth, found = trained_and_loaded_logits(run, context, monkeypatch)
    # Not bit by bit: training makes the prefix once for each row of the batch.
    assert torch.allclose(found, truth, atol=1e-5)
    assert not torch.allclose(truth, logits(context.model().eval(), context), atol=1e-2)


def test_an_interrupted_run_gone_on_with_gives_the_same_prefix(
    decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = trained_run(decoder, tmp_path / "whole", f"prefix:{SIZE}")
    parts, _ = resumed_run(decoder, tmp_path / "parts", f"prefix:{SIZE}", monkeypatch)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (whole.path / "adapter" / name).read_bytes() == (parts.path / "adapter" / name).read_bytes()


def test_a_prefix_is_learned(decoder: Path, tmp_path: Path) -> None:
    run, context = trained_run(decoder, tmp_path, "prefix", "retrain.steps=60", "retrain.weights.learning_rate=2e-2")
    batch = context.task.collate(context.examples("train"), tokenizer=context.tokenizer)
    with torch.no_grad():
        before, after = (
            float(context.task.loss(model, batch)) for model in (adapted(run, context), loaded(run, context))
        )  # type: ignore[arg-type]
    assert after < 0.7 * before


def test_a_prefix_goes_through_bfloat16_passes(decoder: Path, tmp_path: Path) -> None:
    run, _ = tiny_run(decoder, tmp_path, f"prefix:{SIZE}", "retrain.steps=2")
    half = Compute("bfloat16", cpu=True)
    retrain(run, Context(run.recipe, half, show=False))
    for tensor in load_file(run.path / "adapter" / "adapter_model.safetensors").values():
        assert tensor.dtype == torch.float32
        assert bool(tensor.isfinite().all())


def test_other_tasks_are_refused_before_anything_runs(laboratory: Path, tmp_path: Path) -> None:
    run, context = tiny_run(laboratory, tmp_path, "prefix")
    message = r"method 'prefix' is for generation only, and the task is classification"
    with pytest.raises(UserError, match=message):
        Prefix.check_recipe(run.recipe)
    with pytest.raises(UserError, match=message):
        retrain(run, context)
    assert run.stage_state("retrain") is None


def test_recomputed_activations_are_refused_before_anything_runs(decoder: Path, tmp_path: Path) -> None:
    """Transformers drops the cache that holds the prefix from layers that it runs twice, and the masks do not fit."""
    run, context = tiny_run(decoder, tmp_path, "prefix", "model.gradient_checkpointing=true")
    message = r"model\.gradient_checkpointing: method 'prefix' .*; set model\.gradient_checkpointing to false"
    with pytest.raises(UserError, match=message):
        Prefix.check_recipe(run.recipe)
    with pytest.raises(UserError, match=message):
        retrain(run, context)
    assert run.stage_state("retrain") is None


def test_a_head_that_would_not_be_trained_is_refused(decoder: Path, tmp_path: Path) -> None:
    run, _ = tiny_run(decoder, tmp_path, "prefix")
    model = run.recipe.model.model_copy(update={"head": ("lm_head",)})  # which is tied here, and refused for that too
    with pytest.raises(UserError, match=r"'prefix' trains nothing but the prefix; leave model.head at auto"):
        Prefix.check_recipe(run.recipe.model_copy(update={"model": model}))


def test_the_prefix_takes_its_part_of_the_models_positions(decoder: Path, tmp_path: Path) -> None:
    run, context = trained_run(
        decoder, tmp_path, "prefix:28", "retrain.steps=1"
    )  # 40 positions, 12 of them for the text
    message = r"longer than the model's maximum of 40; .*; \d+ of the tokens are the prefix's \(method.size\)"
    loaded(run, context)
    wide, context = tiny_run(decoder, tmp_path, "prefix:35")
    with pytest.raises(UserError, match=message):
        retrain(wide, context)
    long, context = tiny_run(decoder, tmp_path, "prefix:28", "eval.generation.max_new_tokens=20")
    for split in context.recipe.data.splits.eval:
        context.examples(split)
    with pytest.raises(UserError, match=message):
        method_of(long).load(context.model(), context)


@pytest.mark.parametrize("fault", ["another name", "another shape", "no file of weights"])
def test_a_prefix_that_does_not_fit_is_refused(decoder: Path, tmp_path: Path, fault: str) -> None:
    run, context = trained_run(decoder, tmp_path, f"prefix:{SIZE}", "retrain.steps=1")
    file = run.path / "adapter" / "adapter_model.safetensors"
    ((name, tensor),) = load_file(file).items()
    if fault == "another name":
        save_file({"strange": tensor}, file)
    elif fault == "another shape":
        save_file({name: tensor[:, :-1].contiguous()}, file)
    else:
        file.write_bytes(b"no weights")
    with pytest.raises(UserError, match=f"write it anew with: autolora retrain {run.path}"):
        loaded(run, context)
