"""Programs that serve adapters: what each would compute of ours, by its own rules, and what is said about that."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from autolora.adapters.compress import compress
from autolora.adapters.readers import EARLIER_VLLM, LLAMA_CPP, VLLM, Reading, in_words, readings
from autolora.lora.adapter import add_adapter, lora_layers, save_adapter
from autolora.lora.config import lora_config
from autolora.lora.ranks import Ranks
from autolora.lora.stored import WRAPPED, read_config, read_shapes
from autolora.lora.targets import target_shapes

K, ALPHA = 8, 16.0
MIXED = (8, 1, 0, 2)


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "max_position_embeddings": 40}
    return LlamaForCausalLM(LlamaConfig(num_attention_heads=4, num_key_value_heads=2, vocab_size=20, **size)).eval()


def ranks(kind: str) -> Ranks:
    shapes = target_shapes(model(), ["q_proj", "v_proj"])
    mixed = Ranks(dict(zip(shapes, MIXED, strict=True)), K, ALPHA, shapes=shapes)
    even = Ranks(dict.fromkeys(shapes, 2), K, ALPHA, shapes=shapes)
    return {
        "constant": mixed,
        "per_rank": mixed.scaled(ALPHA, "per_rank"),
        "even": even,
        "at its rank": even.at(2),
        "rslora": Ranks(even, 2, ALPHA, "rank_stabilised"),
        "dora": even.at(2),
    }[kind]


def written(folder: Path, kind: str) -> tuple[Path, dict[str, Tensor]]:
    """An adapter as runs write it, and its updates by module as PEFT computes them."""
    config = lora_config(ranks(kind), task_type="CAUSAL_LM")
    config.use_dora = kind == "dora"
    adapted = add_adapter(model(), ranks(kind), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_" in name:
                parameter.normal_()
    save_adapter(adapted, folder, "base")
    return folder, updates(adapted)


def updates(adapted: nn.Module) -> dict[str, Tensor]:
    return {name: layer.get_delta_weight("default") for name, layer in lora_layers(adapted).items()}  # type: ignore[operator]


def llama_cpp(config: Mapping[str, Any], b: Tensor, name: str) -> float:
    """get_scale of llama-adapter.h: alpha / rank, the rank being the tensor's."""
    return float(config["lora_alpha"] / b.shape[1])


def earlier_vllm(config: Mapping[str, Any], b: Tensor, name: str) -> float:
    """vllm_lora_scaling_factor of its PEFTHelper up to 0.31."""
    return float(config["lora_alpha"] / (config["r"] ** 0.5 if config["use_rslora"] else config["r"]))


def vllm(config: Mapping[str, Any], b: Tensor, name: str) -> float:
    """get_rank_and_scaling of its PEFTHelper from 0.32 on."""

    def of(key: str, default: float) -> float:
        fits = (value for pattern, value in config[key].items() if re.match(rf"(.*\.)?({pattern})$", name))
        return float(next(fits, default))

    rank = of("rank_pattern", config["r"])
    return of("alpha_pattern", config["lora_alpha"]) / (rank**0.5 if config["use_rslora"] else rank)


PROGRAMS: dict[str, Callable[[Mapping[str, Any], Tensor, str], float]] = {
    VLLM: vllm,
    EARLIER_VLLM: earlier_vllm,
    LLAMA_CPP: llama_cpp,
}


def wrong_modules(folder: Path, wanted: Mapping[str, Tensor], program: str) -> int:
    """How many updates a program computes otherwise than PEFT, by its own rule."""
    config, tensors = (
        json.loads((folder / "adapter_config.json").read_text()),
        load_file(folder / "adapter_model.safetensors"),
    )
    wrong = 0
    for name, update in wanted.items():
        a, b = (tensors[f"{WRAPPED}{name}.lora_{x}.weight"] for x in "AB")
        wrong += not torch.allclose(PROGRAMS[program](config, b, name) * b @ a, update, rtol=1e-4, atol=1e-5)
    return wrong


def read(folder: Path) -> dict[str, Reading]:
    return {each.program: each for each in readings(read_config(folder), read_shapes(folder))}


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("constant", {VLLM: 0, EARLIER_VLLM: 0, LLAMA_CPP: 2}),  # rank 8 of 8 is right by chance
        ("per_rank", {VLLM: 0, EARLIER_VLLM: 2, LLAMA_CPP: 0}),
        ("even", {VLLM: 0, EARLIER_VLLM: 0, LLAMA_CPP: 0}),  # whatever rank the search began with
        ("at its rank", {VLLM: 0, EARLIER_VLLM: 0, LLAMA_CPP: 0}),
        ("rslora", {VLLM: 0, EARLIER_VLLM: 0, LLAMA_CPP: 4}),
    ],
)
def test_what_is_said_is_what_their_rules_compute(tmp_path: Path, kind: str, wrong: dict[str, int]) -> None:
    """And at one rank all of them compute what PEFT does."""
    folder, wanted = written(tmp_path / "own", kind)
    for program, count in wrong.items():
        assert wrong_modules(folder, wanted, program) == read(folder)[program].scaled == count
        assert read(folder)[program].right == (count == 0)
    compress(folder, {"fraction": 1.0}, tmp_path / "uniform", uniform=True)
    again = updates(PeftModel.from_pretrained(model(), tmp_path / "uniform"))
    assert all(torch.allclose(again[name], wanted[name], atol=1e-5) for name in wanted)
    for program in PROGRAMS:
        assert wrong_modules(tmp_path / "uniform", wanted, program) == 0
        assert read(tmp_path / "uniform")[program].right
    assert in_words(tuple(read(tmp_path / "uniform").values())) == []


def test_what_would_be_silent_is_said(tmp_path: Path) -> None:
    folder, _ = written(tmp_path / "own", "constant")
    (said,) = in_words(tuple(read(folder).values()))
    assert said.startswith("llama.cpp would scale modules otherwise than PEFT, and say nothing; for them write")
    assert "--uniform" in said
    folder, _ = written(tmp_path / "other", "at its rank")
    assert in_words(tuple(read(folder).values())) == []


def test_dora_is_refused_by_all(tmp_path: Path) -> None:
    found = read(written(tmp_path / "own", "dora")[0])
    assert found[VLLM].refused == found[EARLIER_VLLM].refused == ("it has no DoRA",)
    (said,) = found[LLAMA_CPP].refused
    assert said.startswith("its converter ends at model.layers.0.self_attn.q_proj.lora_magnitude_vector")


def test_heads_are_refused_by_llama_cpp_and_some_by_vllm(tmp_path: Path) -> None:
    adapted = get_peft_model(model(), LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"]))
    adapted.save_pretrained(tmp_path)
    found = read(tmp_path)
    assert found[VLLM].refused == ("of trained modules it takes classifier and score alone, not lm_head",)
    assert found[LLAMA_CPP].refused == ("its converter ends at lm_head.weight, which is no factor of a LoRA",)
    config = {**read_config(tmp_path), "modules_to_save": ["score"]}
    assert readings(config, {})[0].refused == ()


@pytest.mark.parametrize(("k", "least"), [(1, 1), (2, 8), (8, 8), (9, 16), (130, 256), (513, None)])
def test_vllms_max_lora_rank_follows_from_the_largest_rank_and_r(k: int, least: int | None) -> None:
    name = f"{WRAPPED}a.lora_A.weight"
    config = {"r": k, "lora_alpha": 16, "target_modules": ["a"], "rank_pattern": {"a": 1}}
    assert readings(config, {name: (1, 4)})[0].max_rank == least
    config = {"r": 1, "lora_alpha": 16, "target_modules": ["a"], "rank_pattern": {"a": k}}
    assert readings(config, {name: (k, 4)})[0].max_rank == least


def test_vllms_own_reader_agrees(tmp_path: Path) -> None:
    """Where vLLM is installed."""
    helper = pytest.importorskip("vllm.lora.peft_helper").PEFTHelper
    for kind in ("constant", "per_rank", "even", "at its rank", "rslora"):
        folder, wanted = written(tmp_path / kind, kind)
        theirs = helper.from_local_dir(str(folder), None)
        for name in wanted:
            rank, scaling = theirs.get_rank_and_scaling(name)
            assert rank == ranks(kind)[name]
            assert scaling == pytest.approx(ranks(kind).scale(name))


@pytest.mark.parametrize("kind", ["constant", "per_rank", "rslora", "at its rank"])
def test_transformers_own_loading_computes_what_peft_does(tmp_path: Path, kind: str) -> None:
    folder, _ = written(tmp_path / "own", kind)
    ids = torch.arange(8)[None]
    with torch.no_grad():
        wanted = PeftModel.from_pretrained(model(), folder)(ids).logits
        own = model()
        own.load_adapter(str(folder))
        assert torch.equal(own(ids).logits, wanted)
        own.disable_adapters()
        assert torch.equal(own(ids).logits, model()(ids).logits)
        assert not torch.allclose(wanted, own(ids).logits, atol=1e-2)


def test_transformers_own_loading_leaves_doras_magnitudes_out(tmp_path: Path) -> None:
    """Where this fails, transformers has learned it, and docs/adapters.md can say so."""
    folder, _ = written(tmp_path / "own", "dora")
    ids = torch.arange(8)[None]
    with torch.no_grad():
        own = model()
        own.load_adapter(str(folder))
        assert not torch.allclose(own(ids).logits, PeftModel.from_pretrained(model(), folder)(ids).logits, atol=1e-2)
