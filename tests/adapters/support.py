"""Adapters as stock PEFT writes them, with everything that they train moved off its beginning."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from autolora.lora.adapter import lora_layers
from tests.allocation.models import BUILD, VOCABULARY

Base = Callable[[], nn.Module]


class Convolutional(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 6, 3, groups=groups)
        self.out = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(self.second(self.first(x).relu()).mean((2, 3)))
        return found


def base(kind: str) -> nn.Module:
    """A tiny model, the same at each call."""
    torch.manual_seed(1)
    model = Convolutional() if kind == "convolutional" else BUILD[kind][0]()
    return model.eval()


@torch.no_grad()
def write_adapter(folder: Path, model: nn.Module, config: LoraConfig, *, zero: str = "", seed: int = 2) -> PeftModel:
    """An adapter with random values in everything that it trains.

    `zero`: the full name of a module whose update is nothing.
    """
    adapted = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            size = 0.3 * torch.randn(parameter.shape, generator=generator)
            parameter.add_(size.to(parameter) * (1 if "lora_" in name else 0.3))
            if zero and zero in name and "lora_" in name and "_B" in name and not name.endswith("bias"):
                parameter.zero_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted.save_pretrained(str(folder))
    return adapted.eval()


def loaded(folder: Path, model: nn.Module) -> PeftModel:
    """The adapter in stock PEFT, on the model; anything that it says about it is an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(missing|unexpected|not found).*")
        return PeftModel.from_pretrained(model, str(folder)).eval()


@torch.no_grad()
def outputs(model: nn.Module, kind: str, **more: Any) -> Tensor:
    """Of a fixed batch."""
    generator = torch.Generator().manual_seed(3)
    if kind == "convolutional":
        return model(torch.randn(3, 4, 6, 6, generator=generator))  # type: ignore[no-any-return]
    ids = torch.randint(5, VOCABULARY, (3, 9), generator=generator)
    return model(input_ids=ids, **more).logits  # type: ignore[no-any-return]


@torch.no_grad()
def updates(adapted: PeftModel) -> dict[str, Tensor]:
    """The update s B A of every module with LoRA, in float64, as PEFT merges it; convolutions flat, (m, n)."""
    found = {}
    layers: dict[str, Any] = {**lora_layers(adapted)}
    for name, layer in layers.items():
        assert isinstance(layer, LoraLayer)
        layer.double()
        found[name] = layer.get_delta_weight("default").flatten(1)
    return found
