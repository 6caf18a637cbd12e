"""Tiny random models of every architecture the tests cover, built from configs, and examples for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DebertaV2Config,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaConfig,
)

from autolora.lora.selection import SelectionLoRA, add_selection
from autolora.lora.targets import head_modules
from autolora.training.batches import Example, TensorBatch

VOCABULARY, LABELS, HIDDEN, PAD = 64, 3, 16, 0

Build = Callable[[int, float], PreTrainedConfig]


@dataclass(frozen=True)
class Architecture:
    """config: from the number of layers and the dropout probability. targets, head: as a recipe names them."""

    config: Build
    targets: tuple[str, ...]
    head: tuple[str, ...] | None = None


def _encoder(kind: type[PreTrainedConfig], **more: Any) -> Build:
    def build(layers: int, dropout: float) -> PreTrainedConfig:
        return kind(
            vocab_size=VOCABULARY,
            hidden_size=HIDDEN,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=2 * HIDDEN,
            max_position_embeddings=40,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            **more,
        )

    return build


def _gpt2(layers: int, dropout: float) -> PreTrainedConfig:
    return GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=HIDDEN,
        n_layer=layers,
        n_head=2,
        n_positions=40,
        bos_token_id=1,
        eos_token_id=2,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
    )


def _llama(layers: int, dropout: float) -> PreTrainedConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=40,
        attention_dropout=dropout,
    )


_DEBERTA = {
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
    "position_buckets": 8,
}
ARCHITECTURES = {
    "bert": Architecture(_encoder(BertConfig), ("query", "value"), ("classifier", "bert.pooler")),
    "roberta": Architecture(_encoder(RobertaConfig), ("query", "value")),
    "deberta-v2": Architecture(_encoder(DebertaV2Config, **_DEBERTA), ("query_proj", "value_proj")),
    "gpt2": Architecture(_gpt2, ("c_attn",)),
    "llama": Architecture(_llama, ("q_proj", "v_proj")),
}


def tiny_model(
    name: str = "bert", *, layers: int = 2, dropout: float = 0.0, dtype: torch.dtype = torch.float32, seed: int = 0
) -> PreTrainedModel:
    """A sequence classifier with random weights, larger than a fresh model's so that second derivatives are too."""
    torch.manual_seed(seed)
    config = ARCHITECTURES[name].config(layers, dropout)
    config.num_labels, config.pad_token_id, config.initializer_range = LABELS, PAD, 0.2
    if hasattr(config, "classifier_dropout"):
        config.classifier_dropout = dropout
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)
    return model.to(dtype).train()


def tiny_head(model: PreTrainedModel, name: str) -> list[str]:
    """Full names of the head's modules."""
    return head_modules(model, ARCHITECTURES[name].head)


def tiny_searched(
    name: str = "bert",
    *,
    rank: int = 4,
    dropout: float = 0.0,
    constraint: str = "softmax",
    dtype: torch.dtype = torch.float32,
    randomised: bool = True,
    layers: int = 2,
) -> tuple[PreTrainedModel, dict[str, SelectionLoRA], list[str]]:
    """A tiny model with selection layers and a trainable head, those layers, and the head's names.

    randomised: B and z are drawn too, as if training had moved them.
    """
    model = tiny_model(name, dropout=dropout, dtype=dtype, layers=layers)
    torch.manual_seed(1)
    found = add_selection(
        model, ARCHITECTURES[name].targets, rank=rank, lora_alpha=16.0, dropout=dropout, constraint=constraint
    )
    head = tiny_head(model, name)
    for module in head:
        model.get_submodule(module).requires_grad_(True)
    if randomised:
        with torch.no_grad():
            for layer in found.values():
                layer.lora_B.normal_(std=0.1)
                layer.selection_logits.normal_(std=0.3)
    return model.train(), found, head


def tiny_examples(count: int, *, seed: int = 0, shortest: int = 3, longest: int = 9) -> list[Example]:
    """Random token ids of different lengths, with a label."""
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(shortest, longest + 1, (count,), generator=rng).tolist()
    return [
        {
            "input_ids": torch.randint(1, VOCABULARY, (length,), generator=rng).tolist(),
            "label": int(torch.randint(0, LABELS, (), generator=rng)),
        }
        for length in lengths
    ]


def collate(examples: Sequence[Example]) -> TensorBatch:
    """Padded on the right."""
    width = max(len(example["input_ids"]) for example in examples)
    rows = [example["input_ids"] + [PAD] * (width - len(example["input_ids"])) for example in examples]
    ids = torch.tensor(rows)
    labels = torch.tensor([example["label"] for example in examples])
    return {"input_ids": ids, "attention_mask": (ids != PAD).long(), "labels": labels}


def logits(model: torch.nn.Module, batch: TensorBatch) -> Tensor:
    """(batch, labels), in at least float32."""
    found: Tensor = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return found.to(torch.promote_types(found.dtype, torch.float32))


def summed_loss(model: torch.nn.Module, batch: TensorBatch) -> Tensor:
    """The cross-entropy of a micro-batch, summed."""
    return F.cross_entropy(logits(model, batch), batch["labels"], reduction="sum")
