"""A Trainer on a tiny model and random rows, seconds a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from autolora.integrations.transformers import SqueezeCallback
from autolora.lora.adapter import lora_layers

STEPS = 8


class Rows(Dataset[dict[str, Tensor]]):
    """Rows whose label is whether the first token is a large one."""

    def __init__(self, count: int = 64, seed: int = 0) -> None:
        draws = torch.Generator().manual_seed(seed)
        self.ids = torch.randint(3, 40, (count, 7), generator=draws)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        ids = self.ids[i]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": (ids[0] > 20).long()}


def base(dtype: torch.dtype = torch.float32) -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=40,
        initializer_range=0.2,
        num_labels=2,
    )
    return BertForSequenceClassification(config).to(dtype)


def model(**more: Any) -> PeftModel:
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        lora_dropout=0.1,
        target_modules=["query", "value", "intermediate.dense"],
        modules_to_save=["classifier"],
        **more,
    )
    torch.manual_seed(1)
    return get_peft_model(base(), config)  # type: ignore[return-value]


def arguments(folder: Path, **more: Any) -> TrainingArguments:
    given: dict[str, Any] = {
        "max_steps": STEPS,
        "per_device_train_batch_size": 8,
        "learning_rate": 2e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 3,
        **more,
    }
    return TrainingArguments(output_dir=str(folder), **given)


def trainer(folder: Path, *callbacks: Any, adapted: PeftModel | None = None, **more: Any) -> Trainer:
    return Trainer(
        model=adapted or model(),
        args=arguments(folder, **more),
        train_dataset=Rows(),
        eval_dataset=Rows(32, seed=1),
        callbacks=list(callbacks) or [SqueezeCallback(0.5, examples=32, warmup=2)],
    )


def factors(adapted: nn.Module) -> int:
    return sum(p.numel() for name, p in adapted.named_parameters() if "lora_" in name)


def ranks(adapted: nn.Module) -> dict[str, int]:
    return {name: layer.r["default"] for name, layer in lora_layers(adapted).items()}


def trained(adapted: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in adapted.named_parameters() if p.requires_grad}


def losses(found: Trainer) -> list[float]:
    return [entry["loss"] for entry in found.state.log_history if "loss" in entry]
