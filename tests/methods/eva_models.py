"""What the tests of EVA share."""

from __future__ import annotations

from typing import Any

import torch

from autolora.context.base import Context
from autolora.training.batches import BatchStream


def stream_of(context: Context, batch_size: int) -> BatchStream:
    return context.stream(context.examples("train"), context.recipe.retrain, "eva", batch_size)


def skewed(model: Any) -> Any:
    """The first layer's inputs vary along two directions alone, the second's along all others."""
    with torch.no_grad():
        model.bert.embeddings.LayerNorm.weight[2:] = 0.02
        model.bert.encoder.layer[0].attention.output.LayerNorm.weight[:2] = 0
        model.bert.encoder.layer[0].output.LayerNorm.weight[:2] = 0
    return model
