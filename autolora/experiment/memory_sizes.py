"""Parameters of a model by what becomes of them, counted without weights, and the bytes of its base.

Symbols are those of `autolora.experiment.memory`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import nn
from transformers.pytorch_utils import Conv1D

from autolora.experiment.memory_settings import MemorySettings, Storage
from autolora.lora.targets import all_linear, default_targets, head_modules, in_modules, target_shapes
from autolora.training.sharding import blocks_of, own_embeddings

NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)  # bytes of a parameter


@dataclass(frozen=True)
class Sizes:
    """Counts of a model's parameters.

    Args:
        base: P.
        quantised: P_q.
        rows: Of the quantised matrices.
        widest: Of the largest of them.
        lora: V without the head.
        head: Of the task's head.
        components: Q.
        targets: Names of the layers with LoRA.
        block: P_b; 0 where no blocks are known.
        outside: P_o.
    """

    base: int
    quantised: int
    rows: int
    widest: int
    lora: int
    head: int
    components: int
    targets: tuple[str, ...]
    block: int = 0
    outside: int = 0


def sizes(config: Any, auto_class: str, settings: MemorySettings) -> Sizes:
    """What there is of a model, which is built without weights.

    Args:
        config: Transformers', of the model.
        auto_class: Of transformers, with the task's head.
        settings: With the layers that get LoRA, and its rank.

    Raises:
        UserError: A name matches no layer.
    """
    with torch.device("meta"):
        model: Any = getattr(transformers, auto_class).from_config(config)
    head = head_modules(model, None) if settings.new_head else []
    if settings.targets == "all-linear":
        targets = all_linear(model, head)
    elif settings.targets is None:
        targets = default_targets(model, head)[0]
    else:
        targets = list(settings.targets)
    shapes = target_shapes(model, targets)
    output = model.get_output_embeddings()
    linear = [
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not output and not in_modules(name, head)
    ]
    blocks = [sum(p.numel() for p in block.parameters()) for block in blocks_of(model)]
    apart = sum(p.numel() for each in own_embeddings(model) for p in each.parameters())
    of_head = sum(p.numel() for name, p in model.named_parameters() if in_modules(name, head))
    base = sum(p.numel() for p in model.parameters()) - of_head
    return Sizes(
        base=base,
        quantised=sum(weight.numel() for weight in linear),
        rows=sum(len(weight) for weight in linear),
        widest=max((weight.numel() for weight in linear), default=0),
        lora=sum(settings.rank * (n + m) for n, m in shapes.values()),
        head=of_head,
        components=settings.rank * len(shapes),
        targets=tuple(targets),
        block=max(blocks, default=0),
        outside=base - sum(blocks) - apart,
    )


def base_bytes(of: Sizes, base: Storage) -> int:
    """Of the frozen weights.

    Args:
        of: The model.
        base: How they are stored.
    """
    if base == "float32":
        return 4 * of.base
    rest = 2 * (of.base - of.quantised)
    if base == "bfloat16":
        return 2 * of.base
    return rest + (round(NF4 * of.quantised) if base == "nf4" else of.quantised + 4 * of.rows)
