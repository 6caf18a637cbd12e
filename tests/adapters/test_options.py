"""Every option of PEFT's LoRA, on adapters that stock PEFT has written: handled so that its own results stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import EvaConfig, LoraConfig, PeftModel
from safetensors.torch import load_file

import autolora
from autolora.files import read_json
from tests.adapters.support import base, loaded, outputs, updates, write_adapter

BERT, BODY = ["query", "value", "intermediate.dense"], "bert.encoder.layer.0.attention.self.query"
LLAMA = ["q_proj", "down_proj"]

# The model; the configuration; a module that has no update; whether that one has to stay, and why.
CASES: dict[str, tuple[str, dict[str, Any], str, bool]] = {
    "plain": ("classification", {"target_modules": BERT}, BODY, False),
    "rank-stabilised": ("classification", {"target_modules": BERT, "use_rslora": True}, BODY, False),
    "patterns": (
        "classification",
        {
            "target_modules": BERT,
            "use_rslora": True,
            "rank_pattern": {"value": 3, r"layer\.1\.attention\.self\.query": 5},
            "alpha_pattern": {"intermediate.dense": 20, "^bert.encoder.layer.0.attention.self.value": 1.5},
        },
        BODY,
        False,
    ),
    "modules-to-save": (
        "classification",
        {"target_modules": BERT, "modules_to_save": ["classifier", "pooler"], "task_type": "SEQ_CLS"},
        BODY,
        False,
    ),
    "bias-all": ("classification", {"target_modules": BERT, "bias": "all"}, BODY, False),
    "bias-lora-only": ("classification", {"target_modules": BERT, "bias": "lora_only"}, BODY, True),
    "lora-bias": ("classification", {"target_modules": BERT, "lora_bias": True}, BODY, True),
    "dora": ("classification", {"target_modules": BERT, "use_dora": True}, BODY, True),
    "dora-rank-stabilised": ("llama", {"target_modules": LLAMA, "use_dora": True, "use_rslora": True}, "", True),
    "layers-to-transform": (
        "classification",
        {"target_modules": ["query", "value"], "layers_to_transform": [1], "layers_pattern": "layer"},
        "bert.encoder.layer.1.attention.self.query",
        False,
    ),
    "excluded": (
        "classification",
        {"target_modules": "all-linear", "exclude_modules": r".*layer\.1.*|.*pooler.*"},
        BODY,
        False,
    ),
    "conv1d": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}, "h.1.attn.c_attn", False),
    "embedding": ("gpt2", {"target_modules": ["wte", "c_attn"], "fan_in_fan_out": True}, "transformer.wte", False),
    "embedding-kept": ("gpt2", {"target_modules": ["wte", "c_attn"], "fan_in_fan_out": True}, "h.1.attn.c_attn", False),
    "tied-output": ("gpt2", {"target_modules": ["lm_head", "c_attn"]}, "h.1.attn.c_attn", False),
    "shared-layers": ("albert", {"target_modules": ["query", "ffn"]}, "query", False),
    "trained-tokens": (
        "llama",
        {"target_modules": LLAMA, "trainable_token_indices": {"embed_tokens": [5, 7, 30]}},
        "layers.0.self_attn.q_proj",
        False,
    ),
    "activated": (
        "llama",
        {"target_modules": LLAMA, "alora_invocation_tokens": [6, 7], "task_type": "CAUSAL_LM"},
        "layers.0.self_attn.q_proj",
        False,
    ),
    "replicated-layers": (
        "llama",
        {"target_modules": LLAMA, "layer_replication": [(0, 2), (1, 2)]},
        "layers.2.self_attn.q_proj",
        False,
    ),
    "convolutions": ("convolutional", {"target_modules": ["first", "second", "out"]}, "first", False),
    "convolutions-dora": ("convolutional", {"target_modules": ["first", "out"], "use_dora": True}, "", True),
    "gaussian": ("llama", {"target_modules": LLAMA, "init_lora_weights": "gaussian"}, "", False),
    "orthogonal": ("llama", {"target_modules": LLAMA, "init_lora_weights": "orthogonal"}, "", False),
    "eva": ("llama", {"target_modules": LLAMA, "init_lora_weights": "eva", "eva_config": EvaConfig()}, "", False),
}
UNMERGEABLE = ("activated",)


UNIFORM = [
    *((name, False) for name in CASES),
    *((name, True) for name in ("patterns", "dora", "lora-bias", "convolutions")),
]


def given(folder: Path, name: str) -> tuple[str, Path, PeftModel]:
    """The kind of model, the adapter's folder, and the model as it has been trained."""
    kind, options, zero, _ = CASES[name]
    adapted = write_adapter(folder / "adapter", base(kind), LoraConfig(r=4, lora_alpha=6, **options), zero=zero)
    return kind, folder / "adapter", adapted


def more(name: str) -> dict[str, Any]:
    """An activated LoRA is told where it begins."""
    return {"alora_offsets": [5, 3, None]} if name == "activated" else {}


@pytest.mark.parametrize(("name", "uniform"), UNIFORM)
@pytest.mark.filterwarnings("ignore")
def test_all_the_energy_is_the_same_adapter(name: str, uniform: bool, tmp_path: Path) -> None:
    kind, folder, adapted = given(tmp_path, name)
    wanted = outputs(adapted, kind, **more(name))
    zero, stays = CASES[name][2:]
    ranks = autolora.compress(folder, "keep=1", tmp_path / "small", uniform=uniform)
    assert ranks.rule["share"] == pytest.approx(1, abs=1e-12)
    for module, rank in ranks.items():
        assert rank == (int(stays) if zero and zero in module else min(ranks.initial_rank, rank))
        assert rank > 0 or zero in module
    found = loaded(tmp_path / "small", base(kind))
    atol = 1e-5 * float(wanted.abs().max())
    assert torch.allclose(outputs(found, kind, **more(name)), wanted, rtol=0, atol=atol)
    if name not in UNMERGEABLE:
        # Where weights are shared, PEFT merges what it has not computed: into GPT-2's output layer, too.
        merged, theirs = (outputs(each.merge_and_unload(), kind) for each in (found, adapted))
        assert torch.allclose(merged, theirs, rtol=0, atol=atol)
    assert not torch.allclose(outputs(base(kind), kind), wanted, rtol=0, atol=1e-2)
    if uniform:
        assert read_json(tmp_path / "small" / "adapter_config.json")["rank_pattern"] == {}


@pytest.mark.parametrize(("name", "uniform"), UNIFORM)
@pytest.mark.filterwarnings("ignore")
def test_half_of_it_is_the_truncated_decomposition(name: str, uniform: bool, tmp_path: Path) -> None:
    kind, folder, adapted = given(tmp_path, name)
    wanted = updates(adapted)
    ranks = autolora.compress(folder, 0.5, tmp_path / "small", uniform=uniform)
    full = sum(sum(ranks.shapes[each]) for each in ranks) * 4
    assert 0 < ranks.parameters <= full / 2 or name == "patterns"
    found = updates(loaded(tmp_path / "small", base(kind)))
    assert found.keys() == set(ranks.targets)
    for module, update in found.items():
        u, sigma, v = torch.linalg.svd(wanted[module], full_matrices=False)
        best = (u[:, : ranks[module]] * sigma[: ranks[module]]) @ v[: ranks[module]]
        assert torch.allclose(update, best, rtol=0, atol=1e-6 * float(sigma[0]))


@pytest.mark.parametrize("name", ["modules-to-save", "bias-all", "dora", "trained-tokens", "lora-bias"])
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_factor_stays_to_the_byte(name: str, tmp_path: Path) -> None:
    _, folder, _ = given(tmp_path, name)
    autolora.compress(folder, 0.5, tmp_path / "small")
    before = load_file(folder / "adapter_model.safetensors")
    after = load_file(tmp_path / "small" / "adapter_model.safetensors")
    others = {key: each for key, each in before.items() if not key.endswith(("lora_A.weight", "lora_B.weight"))}
    assert others
    for key, tensor in others.items():
        gone = key.replace(".base_layer.", ".") if key not in after else key
        assert torch.equal(after[gone], tensor)
        assert after[gone].dtype == tensor.dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_tensors_keep_their_type(dtype: torch.dtype, tmp_path: Path) -> None:
    model = base("llama").to(dtype)
    adapted = write_adapter(tmp_path / "adapter", model, LoraConfig(r=4, target_modules=LLAMA, lora_alpha=6))
    wanted = updates(adapted)
    ranks = autolora.compress(tmp_path / "adapter", 0.5, tmp_path / "small")
    stored = load_file(tmp_path / "small" / "adapter_model.safetensors")
    kinds = {each.dtype for each in load_file(tmp_path / "adapter" / "adapter_model.safetensors").values()}
    assert {each.dtype for each in stored.values()} == kinds
    found = updates(loaded(tmp_path / "small", base("llama").to(dtype)))
    for module, update in found.items():
        u, sigma, v = torch.linalg.svd(wanted[module], full_matrices=False)
        best = (u[:, : ranks[module]] * sigma[: ranks[module]]) @ v[: ranks[module]]
        assert torch.allclose(update, best, rtol=0, atol=5 * max(torch.finfo(dtype).eps, 1e-13) * float(sigma[0]))
