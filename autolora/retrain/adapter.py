"""LoRA at one rank per layer, as a stock PEFT adapter.

PEFT goes on silently where names or ranks do not fit (a misspelt pattern gets the default rank, a changed rank changes
the scaling), so every pattern is anchored on a full module name, and each layer's rank and scaling are asserted
afterwards. Layers of rank 0 are left out of the targets, as PEFT refuses rank 0.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from autolora.errors import UserError
from autolora.files import replace_folder, write_json
from autolora.model.selection import SelectionLoRA


def lora_config(
    ranks: Mapping[str, int],
    *,
    initial_rank: int,
    lora_alpha: float,
    scaling: str = "constant",
    dropout: float = 0.0,
    head: Sequence[str] = (),
    task_type: str | None = None,
    fan_in_fan_out: bool = False,
) -> LoraConfig:
    """The PEFT configuration of a rank per layer.

    ranks: by full module name. scaling "constant": lora_alpha / initial_rank in every layer; "per_rank": lora_alpha /
    rank, the authors' behaviour. Raises UserError where every rank is 0.
    """
    kept = {name: rank for name, rank in ranks.items() if rank > 0}
    if not kept:
        raise UserError(
            "no layer kept a component: all ranks are 0, there is nothing to retrain; lower search.threshold"
        )
    alphas = {
        name: lora_alpha * rank / initial_rank if scaling == "constant" else lora_alpha for name, rank in kept.items()
    }
    return LoraConfig(
        r=initial_rank,
        lora_alpha=lora_alpha,
        target_modules=sorted(kept),
        rank_pattern={_anchored(name): rank for name, rank in kept.items()},
        alpha_pattern={_anchored(name): alpha for name, alpha in alphas.items()},
        lora_dropout=dropout,
        modules_to_save=list(head) or None,
        task_type=task_type,
        fan_in_fan_out=fan_in_fan_out,
        bias="none",
    )


def add_adapter(model: PreTrainedModel, config: LoraConfig, ranks: Mapping[str, int]) -> PeftModel:
    """Put the adapter on the model, and make sure that it is the one that was asked for."""
    adapted = get_peft_model(model, config)
    adapted.float()  # adapter weights in the model's float32
    assert_ranks(adapted, ranks, config)
    return adapted


def assert_ranks(adapted: nn.Module, ranks: Mapping[str, int], config: LoraConfig) -> None:
    """Raises RuntimeError unless each layer has exactly its rank and scaling."""
    found = {
        name.removeprefix("base_model.model."): (layer.r["default"], layer.scaling["default"])
        for name, layer in adapted.named_modules()
        if isinstance(layer, LoraLayer)
    }
    wanted = {name: (rank, config.alpha_pattern[_anchored(name)] / rank) for name, rank in ranks.items() if rank > 0}
    if found.keys() != wanted.keys():
        raise RuntimeError(f"the adapter is on {sorted(found)}, but was meant for {sorted(wanted)}")
    for name, (rank, scale) in wanted.items():
        if found[name][0] != rank or not math.isclose(found[name][1], scale):
            raise RuntimeError(f"{name}: rank and scaling are {found[name]}, but should be {(rank, scale)}")


def save_adapter(adapted: PeftModel, path: Path, base: str, revision: str | None = None) -> None:
    """Write the adapter beside its place and swap it in, so that there is never half of one.

    base, revision: the pretrained model, as the adapter should name it.
    """
    config = adapted.peft_config["default"]
    config.base_model_name_or_path, config.revision = base, revision
    with replace_folder(path) as fresh:
        adapted.save_pretrained(fresh, save_embedding_layers=False)  # the vocabulary is the base model's
        _sort_config(fresh / "adapter_config.json")


def _sort_config(path: Path) -> None:
    """PEFT writes sets in an order that changes from process to process; the same run should give the same bytes."""
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("target_modules", "modules_to_save"):
        if isinstance(config.get(key), list):  # a prefix has neither
            config[key] = sorted(set(config[key]))
    write_json(path, config)


def uses_conv1d(model: nn.Module, names: Sequence[str]) -> bool:
    """Whether the layers keep their weights transposed, as GPT-2's do."""
    return any(isinstance(model.get_submodule(name), Conv1D) for name in names)


def export_searched(
    model: PreTrainedModel,
    layers: Mapping[str, SelectionLoRA],
    keep: Mapping[str, Sequence[bool]],
    *,
    head: Sequence[str] = (),
    task_type: str | None = None,
) -> PeftModel:
    """The searched model itself as a PEFT adapter: kept components only, their selection variables folded into B.

    The selection layers of `model` are replaced by their base layers, in place. Gives the same outputs as the searched
    model with the dropped components removed.
    """
    factors: dict[str, Any] = {}
    for name, layer in layers.items():
        kept = torch.tensor(list(keep[name]), device=layer.lora_A.device)
        a = layer.constraint(layer.selection_logits).detach()
        factors[name] = (layer.lora_A.detach()[kept], (layer.lora_B.detach() * a)[:, kept])
        model.set_submodule(name, layer.base)
    first = next(iter(layers.values()))
    initial_rank = first.lora_A.shape[0]
    ranks = {name: sum(keep[name]) for name in layers}
    config = lora_config(
        ranks,
        initial_rank=initial_rank,
        lora_alpha=first.scaling * initial_rank,
        head=head,
        task_type=task_type,
        fan_in_fan_out=uses_conv1d(model, list(layers)),
    )
    adapted = add_adapter(model, config, ranks)
    with torch.no_grad():
        for name, rank in ranks.items():
            if rank:
                target = adapted.base_model.model.get_submodule(name)
                target.lora_A["default"].weight.copy_(factors[name][0])
                target.lora_B["default"].weight.copy_(factors[name][1])
    return adapted


def _anchored(name: str) -> str:
    """A pattern that matches this full module name and no other."""
    return "^" + re.escape(name)
