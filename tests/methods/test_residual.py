"""PiSSA and OLoRA: what they take out of the weights, and what is written instead of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import GPT2Config, GPT2Model, LlamaConfig, LlamaForCausalLM

from autolora.adapters.compress import compress
from autolora.errors import UserError
from autolora.experiment.merge import merge
from autolora.experiment.preflight import load_recipe
from autolora.experiment.retrain import retrain
from autolora.export.read import read_allocation
from autolora.methods.base import method_of
from autolora.methods.residual import _check_layers, take_out
from autolora.registry import METHODS
from autolora.training.finetune import Finetuning
from tests.laboratory import tiny_run
from tests.methods.linked import LAYERS, layer_of, spent
from tests.methods.support import logits, write_generation_laboratory

PLAIN = ("retrain.lora_dropout=0", "retrain.weights.learning_rate=3e-2", "retrain.steps=6")
R = 2


def small(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "gpt2":
        return GPT2Model(GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=20, vocab_size=30))
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=30, num_key_value_heads=2, **size)).model


@pytest.mark.parametrize(
    ("method", "kind", "name"),
    [
        ("pissa", "llama", "layers.0.self_attn.k_proj"),
        ("pissa", "llama", "layers.0.mlp.down_proj"),
        ("pissa", "gpt2", "h.0.attn.c_attn"),
        ("olora", "llama", "layers.0.self_attn.k_proj"),
        ("olora", "llama", "layers.0.mlp.down_proj"),
    ],
)
def test_beginning_and_residual_are_pefts_to_the_bit(method: str, kind: str, name: str) -> None:
    kwargs = {"r": 3, "lora_alpha": 6, "target_modules": [name], "fan_in_fan_out": kind == "gpt2"}
    theirs = get_peft_model(small(kind), LoraConfig(init_lora_weights=method, **kwargs)).base_model.model
    ours = small(kind).get_submodule(name)
    weight = ours.weight.data.T if kind == "gpt2" else ours.weight.data
    a, b = METHODS.load(method).factors(weight, 3, 2.0)  # type: ignore[attr-defined]
    take_out(ours, a, b, 2.0)
    layer = theirs.get_submodule(name)
    assert torch.equal(a, layer.lora_A["default"].weight)
    assert torch.equal(b, layer.lora_B["default"].weight)
    assert torch.equal(ours.weight, layer.base_layer.weight)
    assert not torch.equal(ours.weight, small(kind).get_submodule(name).weight)


@pytest.mark.parametrize("name", ["h.0.attn.c_attn", "h.0.attn.c_proj", "h.0.mlp.c_proj"])
def test_olora_of_transposed_weights_begins_as_the_pretrained_layer(name: str) -> None:
    """Square ones, too, where PEFT's own does not."""
    layer, x = small("gpt2").get_submodule(name), torch.randn(5, 64 if "mlp" in name else 16)
    before = layer(x)
    a, b = METHODS.load("olora").factors(layer.weight.data.T, 3, 2.0)  # type: ignore[attr-defined]
    assert torch.allclose(b.T @ b, torch.eye(3), atol=1e-5)
    take_out(layer, a, b, 2.0)
    assert torch.allclose(layer(x) + 2.0 * x @ a.T @ b.T, before, atol=1e-5)
    assert not torch.allclose(layer(x), before, atol=1e-2)


def test_pissa_takes_the_principal_components() -> None:
    weight = small("llama").get_submodule("layers.0.mlp.down_proj").weight.data
    a, b = METHODS.load("pissa").factors(weight, 3, 0.5)  # type: ignore[attr-defined]
    left = torch.linalg.svdvals(weight - 0.5 * b @ a)
    assert torch.allclose(left[: 16 - 3], torch.linalg.svdvals(weight)[3:], atol=1e-5)
    assert torch.allclose(left[16 - 3 :], torch.zeros(3), atol=1e-5)
    assert torch.allclose(a.norm(dim=1), b.norm(dim=0), rtol=1e-4)  # shared out evenly


@pytest.mark.parametrize("method", ["pissa", "olora"])
def test_what_is_written_is_the_difference_at_twice_the_rank(laboratory: Path, tmp_path: Path, method: str) -> None:
    run, context = tiny_run(laboratory, tmp_path, f"{method}:{R}", *PLAIN)
    retrain(run, context)
    counts = spent(run, "retrain")
    assert counts["trainable_parameters"] == 4 * R * 64 + 66
    assert counts["stored_parameters"] == 2 * 4 * R * 64 + 66
    stored = load_file(run.path / "adapter" / "adapter_model.safetensors")
    assert {tensor.shape[0] for name, tensor in stored.items() if ".lora_A." in name} == {2 * R}
    assert any("classifier" in name for name in stored)
    config = json.loads((run.path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"] / config["r"]) == (2 * R, 16.0 / 4)
    first = load_file(run.path / "retrain" / "first" / "checkpoint.safetensors")
    for name in LAYERS:
        a, b = (stored[f"base_model.model.{name}.lora_{x}.weight"] for x in "AB")
        assert torch.equal(a[R:], first[f"A/{name}"])
        assert torch.equal(b[:, R:], -first[f"B/{name}"])


@pytest.mark.parametrize("method", ["pissa", "dora", "rslora", "lora-fa"])
def test_what_else_reads_a_run_reads_its_adapter(laboratory: Path, tmp_path: Path, method: str) -> None:
    """Export, compression with all of the energy, and merging."""
    run, context = tiny_run(laboratory, tmp_path / "runs", f"{method}:{R}", *PLAIN)
    retrain(run, context)
    found = read_allocation(run)
    assert dict(found.ranks) == dict.fromkeys(LAYERS, R)
    assert (found.adapter is None) == (method == "pissa")
    said = " ".join(found.remarks)
    assert ("init_lora_weights: pissa" in said, "use_dora: true" in said) == (method == "pissa", method == "dora")
    ours = logits(PeftModel.from_pretrained(context.model(), run.path / "adapter").eval(), context)
    compress(run.path, {"keep": 1.0}, tmp_path / "smaller")
    again = logits(PeftModel.from_pretrained(context.model(), tmp_path / "smaller").eval(), context)
    assert torch.allclose(again, ours, atol=1e-5)
    merge(run.path, tmp_path / "merged")
    merged = type(context.model()).from_pretrained(tmp_path / "merged").eval()
    assert torch.allclose(logits(merged, context), ours, atol=1e-5)


def test_factors_of_another_recipe_are_not_gone_on_with(laboratory: Path, tmp_path: Path) -> None:
    run, context = tiny_run(laboratory, tmp_path, f"pissa:{R}", *PLAIN)
    retrain(run, context)
    kept = run.path / "retrain" / "first" / "checkpoint.safetensors"
    before = kept.read_bytes()
    other, context = tiny_run(laboratory, tmp_path, f"pissa:{R}", *PLAIN, "retrain.lora_alpha=2")
    (other.path / "retrain" / "first").mkdir(parents=True)
    (other.path / "retrain" / "first" / "checkpoint.safetensors").write_bytes(before)
    retrain(other, context)
    assert (other.path / "retrain" / "first" / "checkpoint.safetensors").read_bytes() != before
    assert {layer_of(method_of(other).load(context.model(), context), name).scaling["default"] for name in LAYERS} == {
        2.0 / 4
    }


@pytest.mark.parametrize("method", ["pissa", "olora"])
def test_tied_weights_are_refused_before_the_first_step(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    laboratory = write_generation_laboratory(tmp_path / "lab", "llama")
    run, context = tiny_run(laboratory, tmp_path, f"{method}:{R}:targets=lm_head")
    monkeypatch.setattr(Finetuning, "advance", lambda *_: pytest.fail("a step was taken"))
    with pytest.raises(UserError, match=rf"{method}: lm_head shares its weights with model\.embed_tokens\.weight"):
        retrain(run, context)
    assert not (run.path / "adapter").exists()


@pytest.mark.parametrize("method", ["pissa", "olora"])
def test_a_base_that_is_to_be_quantised_is_refused_with_the_recipe(method: str, laboratory: Path) -> None:
    recipe = load_recipe(laboratory / "tiny.yaml", ["model.quantization=nf4", f"method.name={method}", "method.size=2"])
    with pytest.raises(UserError, match=rf"model\.quantization: {method} takes a part out of the pretrained weights"):
        METHODS.load(method).check_recipe(recipe)


def test_weights_that_are_not_plain_floats_are_refused() -> None:
    class Quantised(nn.Parameter):
        pass

    model: Any = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "c": nn.Linear(4, 4)})
    model["b"].weight = nn.Parameter(torch.zeros(4, 4, dtype=torch.int8), requires_grad=False)
    model["c"].weight = Quantised(torch.zeros(4, 4))
    _check_layers("pissa", model, ["a"])
    for name in "bc":
        with pytest.raises(UserError, match=f"pissa: {name} is a Linear with weights of .*without quantization"):
            _check_layers("pissa", model, [name])
