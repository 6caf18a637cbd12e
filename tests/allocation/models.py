"""Tiny models with a trained-looking LoRA, and gates by brute force: one example at a time, ΔW formed, autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

from autolora.allocation.components import Components, components_of
from autolora.lora.adapter import lora_layers

VOCABULARY, HIDDEN = 40, 16
_COMMON = {"vocab_size": VOCABULARY, "hidden_size": HIDDEN, "initializer_range": 0.2, "num_attention_heads": 2}
_ENCODER = {**_COMMON, "num_hidden_layers": 2, "intermediate_size": 24, "max_position_embeddings": 40}

BUILD: dict[str, tuple[Callable[[], PreTrainedModel], list[str]]] = {
    "classification": (
        lambda: BertForSequenceClassification(BertConfig(**_ENCODER, num_labels=3)),
        ["query", "value", "intermediate.dense"],
    ),
    "regression": (
        lambda: BertForSequenceClassification(BertConfig(**_ENCODER, num_labels=1, problem_type="regression")),
        ["query", "bert.pooler.dense"],
    ),
    "tagging": (lambda: BertForTokenClassification(BertConfig(**_ENCODER, num_labels=5)), ["key", "output.dense"]),
    "albert": (
        lambda: AlbertForSequenceClassification(
            AlbertConfig(**{**_ENCODER, "num_hidden_layers": 3}, embedding_size=8, num_labels=3)
        ),
        ["query", "ffn"],
    ),
    "gpt2": (
        lambda: GPT2LMHeadModel(
            GPT2Config(vocab_size=VOCABULARY, n_embd=HIDDEN, n_layer=2, n_head=2, n_positions=40, initializer_range=0.2)
        ),
        ["c_attn", "c_proj"],
    ),
    "llama": (
        lambda: LlamaForCausalLM(LlamaConfig(**_ENCODER, num_key_value_heads=1)),
        ["q_proj", "down_proj"],
    ),
    "opt": (
        lambda: OPTForCausalLM(
            OPTConfig(
                vocab_size=VOCABULARY,
                hidden_size=HIDDEN,
                word_embed_proj_dim=HIDDEN,
                num_hidden_layers=2,
                num_attention_heads=2,
                ffn_dim=24,
                max_position_embeddings=40,
                init_std=0.2,
            )
        ),
        ["fc1", "fc2", "v_proj"],
    ),
}


def adapted(name: str, *, rank: int = 3, dropout: float = 0.1, dtype: torch.dtype = torch.float64) -> PeftModel:
    """A model of `BUILD` in training mode, its LoRA drawn as if training had moved it."""
    torch.manual_seed(0)
    build, targets = BUILD[name]
    return with_lora(build(), targets, rank=rank, dropout=dropout).to(dtype).train()


def with_lora(model: nn.Module, targets: Sequence[str], *, rank: int = 3, dropout: float = 0.0, **more: Any) -> Any:
    """A LoRA on any model, its B drawn."""
    config = LoraConfig(r=rank, lora_alpha=6, target_modules=list(targets), lora_dropout=dropout, **more)
    found = get_peft_model(model, config)  # type: ignore[arg-type]  # any module will do
    randomise(found)
    return found


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """Draw every B."""
    for parameter_name, parameter in model.named_parameters():
        if "lora_B" in parameter_name:
            parameter.normal_(std=0.1)


def token_batch(*, count: int = 4, width: int = 7, seed: int = 1, padded: bool = True) -> dict[str, Tensor]:
    """Random token ids, padded on the right to different lengths."""
    draws = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCABULARY, (count, width), generator=draws)
    mask = torch.ones_like(ids)
    if padded:
        for row in range(count):
            mask[row, width - row % 3 :] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


def batches(count: int = 3) -> list[dict[str, Tensor]]:
    return [token_batch(seed=seed) for seed in range(count)]


def plain(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return with_lora(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), ["0", "2"])


def measured_layers(model: PeftModel) -> tuple[dict[str, Any], dict[str, Components]]:
    layers: dict[str, Any] = lora_layers(model)  # type: ignore[assignment]
    return layers, components_of(layers)


def brute_force(
    model: nn.Module,
    layers: Mapping[str, Any],
    components: Mapping[str, Components],
    losses: Sequence[Callable[[], Tensor]],
) -> Tensor:
    """∂loss/∂g of every loss (one an example) in turn, with every layer's update replaced by Σ g_i σ_i u_i v_iᵀ.

    The updates are formed from the components, and the LoRA's own path is shut by its scaling.
    """
    model.eval()
    gates = {name: torch.ones(len(each), dtype=torch.float64, requires_grad=True) for name, each in components.items()}
    handles = []
    for name, layer in layers.items():
        parts = torch.einsum("mi,i,ni->imn", components[name].u, components[name].sigma, components[name].v)

        def hook(module: nn.Module, inputs: Any, output: Tensor, name: str = name, parts: Tensor = parts) -> Tensor:
            return output + F.linear(inputs[0], torch.einsum("i,imn->mn", gates[name], parts))

        handles.append(layer.register_forward_hook(hook))
    scalings = {name: layer.scaling["default"] for name, layer in layers.items()}
    for layer in layers.values():
        layer.scaling["default"] = 0.0
    rows = [torch.cat(torch.autograd.grad(loss(), list(gates.values()))) for loss in losses]
    for name, layer in layers.items():
        layer.scaling["default"] = scalings[name]
    for handle in handles:
        handle.remove()
    return torch.stack(rows)
