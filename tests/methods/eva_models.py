"""What the tests of EVA share."""

from __future__ import annotations

from typing import Any

import torch

from autolora.lab import Lab
from autolora.training.batches import BatchStream


def stream_of(lab: Lab, batch_size: int) -> BatchStream:
    return lab.stream(lab.examples("train"), lab.recipe.retrain, "eva", batch_size)


def skewed(model: Any) -> Any:
    """The first layer's inputs vary along two directions alone, the second's along all others."""
    with torch.no_grad():
        model.bert.embeddings.LayerNorm.weight[2:] = 0.02
        model.bert.encoder.layer[0].attention.output.LayerNorm.weight[:2] = 0
        model.bert.encoder.layer[0].output.LayerNorm.weight[:2] = 0
    return model
