"""Whole lines, search to table, with each way of keeping and computing the base; and what is refused beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import autolora
from autolora.context.device import check_device
from autolora.errors import RecipeError, UserError
from autolora.experiment.preflight import load_recipe
from autolora.experiment.retrain import retrain
from autolora.experiment.search import search
from autolora.recipe.fields import WHOLE
from autolora.recipe.load import dump_recipe
from autolora.runs.store import Run
from tests.experiment.small_llama import line, made, write_llama

SQUEEZE = "squeeze:budget=0.5"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (folder := tmp_path_factory.mktemp("own")).mkdir(exist_ok=True)
    return write_llama(folder)


def losses(run: Run) -> list[float]:
    return [json.loads(line)["train_loss"] for line in (run.path / "retrain" / "log.jsonl").read_text().splitlines()]


def scores(run: Run) -> Any:
    return run.manifest()["stages"]["eval"]["scores"]


@pytest.fixture(scope="module")
def plain(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    output = tmp_path_factory.mktemp("plain")
    return {method: line(recipe, output, method) for method in ("autolora", SQUEEZE)}


@pytest.mark.parametrize("method", ["autolora", SQUEEZE])
def test_a_line_with_a_bfloat16_base_and_checkpointing_is_the_line_without(
    method: str, recipe: Path, plain: dict[str, Run], tmp_path: Path
) -> None:
    run = line(recipe, tmp_path, method, "model.base_dtype=bfloat16", "model.gradient_checkpointing=true")
    assert losses(run) == pytest.approx(losses(plain[method]), rel=1e-6)
    assert dict(run.ranks()) == dict(plain[method].ranks())
    assert scores(run) == scores(plain[method])
    stages = [each.manifest()["stages"]["retrain"]["model"] for each in (run, plain[method])]
    assert stages[0] == stages[1]


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_line_on_a_quantised_base_ends_and_its_adapter_is_of_the_base(
    kind: str, recipe: Path, plain: dict[str, Run], tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes", reason="pip install 'autolora[quantised]' brings it")
    run = line(recipe, tmp_path, SQUEEZE, f"model.quantization={kind}", "model.gradient_checkpointing=true")
    assert losses(run)[-1] == pytest.approx(losses(plain[SQUEEZE])[-1], rel=0.2)
    config = json.loads((run.path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"].endswith("/model")
    assert "quantization_config" not in json.loads((run.path / "adapter" / "config.json").read_text())
    merged = autolora.merge(run.path, tmp_path / "merged")
    assert merged.model_class == "LlamaForCausalLM"


@pytest.mark.parametrize(
    "options",
    [
        ["model.gradient_checkpointing=true", "model.base_dtype=bfloat16"],
        ["model.quantization=nf4", "retrain.weights.optimizer=adamw_8bit"],
    ],
    ids=["bfloat16", "nf4"],
)
def test_a_resumed_training_is_the_uninterrupted_one(options: list[str], recipe: Path, tmp_path: Path) -> None:
    if "nf4" in options[0]:
        pytest.importorskip("bitsandbytes", reason="pip install 'autolora[quantised]' brings it")
    whole, context = made(recipe, tmp_path / "whole", "lora:2", *options)
    search(whole, context)
    retrain(whole, context)
    broken, context = made(recipe, tmp_path / "broken", "lora:2", *options)
    search(broken, context)
    stop(broken, context)
    retrain(broken, context)
    assert losses(broken) == losses(whole)
    one, other = (each.path / "adapter" / "adapter_model.safetensors" for each in (whole, broken))
    assert one.read_bytes() == other.read_bytes()


def stop(run: Run, context: Any) -> None:
    """Interrupt the retraining in its fifth step, of which every second is kept."""
    before, passes = context.gradients, []

    def gradients(*args: Any, **kwargs: Any) -> Any:
        made = before(*args, **kwargs)
        inner = made.loss

        def loss(batch: Any) -> Any:
            passes.append(batch)
            if len(passes) == 5:
                raise KeyboardInterrupt
            return inner(batch)

        made.loss = loss
        return made

    context.gradients = gradients
    with pytest.raises(KeyboardInterrupt):
        retrain(run, context)
    del context.gradients


def faults(recipe: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as error:
        load_recipe(recipe, overrides)
    return "\n".join(f"{fault.field}: {fault.message}; {fault.hint}" for fault in error.value.faults)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.torch_compile=true", "search.estimator=exact"], "model.torch_compile: compiled passes cannot be"),
        (["model.attn_implementation=flash_attention_2"], "computes in 16 bits what is subtracted"),
        (["model.attn_implementation=flash_attention_2", "search.estimator=exact"], "has no second derivative"),
        (["model.attn_implementation=flex_attention", "search.estimator=exact"], "has no second derivative"),
        (["search.weights.optimizer=adamw_8bit"], "write adamw, or search.inner_step: plain"),
        (["model.quantization=nf8"], "model.quantization: "),
    ],
)
def test_options_that_exclude_each_other_are_refused_by_name(overrides: list[str], message: str, recipe: Path) -> None:
    assert message in faults(recipe, *overrides)


def test_a_gguf_model_is_not_quantised_again(recipe: Path, smollm2: Path) -> None:
    said = faults(recipe, "model.name=bundled:SmolLM2-135M-Instruct", "model.quantization=nf4")
    assert "whose weights are quantised already" in said


@pytest.mark.parametrize(
    ("method", "override", "message"),
    [
        ("lora:2", "model.attn_implementation=flash_attention_2", "needs a CUDA device, not cpu; write sdpa"),
        ("lora:2", "retrain.weights.optimizer=paged_adamw_8bit", "retrain.weights.optimizer: paged_adamw_8bit"),
        ("full", "model.base_dtype=bfloat16", "is for a base that stays frozen, and this method trains it"),
    ],
)
def test_what_the_device_or_the_method_excludes_is_refused_before_training(
    method: str, override: str, message: str, recipe: Path, tmp_path: Path
) -> None:
    _, context = made(recipe, tmp_path, method, override, "search.estimator=first_order")
    with pytest.raises(UserError, match=message):
        check_device(context)


def test_without_bitsandbytes_it_is_said_what_to_install(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import autolora.context.device as device
    import autolora.training.bits as bits

    for module in (device, bits):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    run, context = made(recipe, tmp_path, "lora:2", "model.quantization=nf4", "retrain.weights.optimizer=adamw_8bit")
    with pytest.raises(UserError) as error:
        search(run, context)
    assert str(error.value).count("pip install 'autolora[quantised]'") == 2


def test_without_a_compiler_nothing_is_compiled(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    _, context = made(recipe, tmp_path / "runs", "lora:2", "model.torch_compile=true")
    with pytest.raises(UserError, match=r"model\.torch_compile: torch\.compile needs a C\+\+ compiler"):
        check_device(context)


def test_what_came_later_is_in_no_key_of_an_earlier_run_while_it_is_at_its_default(recipe: Path) -> None:
    read = load_recipe(recipe)
    said = read.model_dump(mode="json")
    whole = read.model_dump(mode="json", context=WHOLE)
    assert set(whole["model"]) - set(said["model"]) >= {"base_dtype", "quantization", "torch_compile"}
    assert "optimizer" not in said["retrain"]["weights"]
    assert "base_dtype: auto" in dump_recipe(read)
    other = load_recipe(recipe, ["model.base_dtype=bfloat16"]).model_dump(mode="json")
    assert other["model"]["base_dtype"] == "bfloat16"


def test_checkpointed_layers_keep_dropout_masks_and_gradients() -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig

    from autolora.lora.selection import add_selection
    from autolora.training.recompute import recompute_layers

    ids = torch.randint(0, 20, (2, 7), generator=torch.Generator().manual_seed(0))
    found, kept = [], []
    for recompute in (False, True):
        torch.manual_seed(0)
        sizes: dict[str, Any] = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
        model: Any = AutoModelForCausalLM.from_config(LlamaConfig(num_attention_heads=2, **sizes))
        if recompute:
            recompute_layers(model)
        layers = add_selection(model, ["q_proj", "down_proj"], rank=2, dropout=0.5)
        trained = [parameter for layer in layers.values() for parameter in layer.trained()]
        for layer in layers.values():
            torch.nn.init.normal_(layer.lora_B)
        model.train()
        torch.manual_seed(1)
        saved = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal saved
            saved += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(input_ids=ids, labels=ids).loss
        kept.append(saved)
        found.append(torch.autograd.grad(loss, trained))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-6)
    assert kept[1] < kept[0] / 2
