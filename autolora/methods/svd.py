"""No search at all: uniform LoRA, compressed after its training with PEFT's own conversion (``svd``).

`peft.convert_to_lora` decomposes every layer's update and, given a share of the squared singular values to keep, gives
each layer the rank that this share needs. The share is chosen so that the ranks add up to AutoLoRA's, of the same
recipe and seed. `size` is the rank before compression; it is k where none is given. Nothing is trained afterwards.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from peft import PeftModel, convert_to_lora
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from autolora.files import write_json
from autolora.lab import Lab
from autolora.methods.base import AUTOLORA, PeftMethod, method_of
from autolora.recipe.schema import Method as Settings
from autolora.recipe.schema import Recipe
from autolora.retrain.adapter import add_adapter, lora_config, uses_conv1d

PREFIX = "base_model.model."


class Svd(PeftMethod):
    """A uniform LoRA's own training, and its cost, with the ranks found afterwards."""

    searches, trains = False, False

    @classmethod
    def needs(cls, recipe: Recipe) -> tuple[Settings, ...]:
        return AUTOLORA, _uniform(recipe)

    def check(self) -> None:
        for settings in self.needs(self.recipe):
            self.source(settings)

    def adapt(self, model: PreTrainedModel, head: Sequence[str], lab: Lab, total: int) -> nn.Module:
        uniform = self.source(_uniform(self.recipe))
        begun = time.monotonic()
        trained = method_of(uniform).load(lab.model(), lab)
        assert isinstance(trained, PeftModel)
        share = share_for(_energies(trained), self.budget())
        factors = _compress(trained, share)
        ranks = {name: a.shape[0] for name, (a, _) in factors.items()}
        size = max(ranks.values())
        # Scaling is part of the factors: lora_alpha / rank is 1 everywhere.
        config = lora_config(
            ranks,
            initial_rank=size,
            lora_alpha=float(size),
            head=head,
            task_type=lab.task.peft_task_type,
            fan_in_fan_out=uses_conv1d(model, list(ranks)),
        )
        adapted = add_adapter(model, config, ranks)
        _fill(adapted, factors, trained, head)
        self._bill(uniform, time.monotonic() - begun)
        initial = _uniform(self.recipe).size
        write_json(self.run.path / "retrain" / "ranks.json", {"initial_rank": initial, "share": share, "ranks": ranks})
        return cast(nn.Module, adapted)

    def _bill(self, uniform: Any, seconds: float) -> None:
        """What the uniform LoRA's training took is this method's cost too."""
        spent = uniform.manifest()["stages"]["retrain"]
        kept = ("steps", "forward_passes", "backward_passes", "peak_memory_mib")
        self.run.note(
            "retrain", seconds=round(spent["seconds"] + seconds, 2), **{key: spent[key] for key in kept if key in spent}
        )


def _uniform(recipe: Recipe) -> Settings:
    """The uniform LoRA that is compressed."""
    rate = recipe.method.learning_rate if recipe.method.name == "svd" else None
    size = recipe.method.size if recipe.method.name == "svd" else None
    return Settings(name="lora", size=size or recipe.search.rank, learning_rate=rate)


def share_for(energies: Mapping[str, Tensor], budget: int) -> float:
    """The share of squared singular values that gives the layers ranks with the sum `budget`, or the nearest below it.

    energies: for every layer the share that its first 1, 2, … components hold, ascending to 1. A layer's rank is the
    least that holds the wanted share, and at least 1.
    """
    shares = torch.cat([energy.double() for energy in energies.values()]).sort().values
    extra = budget - len(energies)  # so many components beyond each layer's first: shares that are not enough
    if extra <= 0:
        return float(shares[0]) / 2
    if extra >= len(shares):
        return 1.0
    return float(shares[extra - 1] + shares[extra]) / 2


@torch.no_grad()
def _energies(trained: nn.Module) -> dict[str, Tensor]:
    found = {}
    for name, layer in trained.named_modules():
        if isinstance(layer, LoraLayer):
            squares = torch.linalg.svdvals(layer.get_delta_weight("default").float()).square()
            found[name] = (squares.cumsum(0) / squares.sum()).cpu()
    return found


def _compress(trained: PeftModel, share: float) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B of every layer by PEFT's conversion, by full module name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this is LoRA already, and that there is typically no need
        _, tensors = convert_to_lora(trained, rank=share)
    ends = (".lora_A.weight", ".lora_B.weight")
    names = [key.removesuffix(ends[0]) for key in tensors if key.endswith(ends[0])]
    return {name.removeprefix(PREFIX): (tensors[name + ends[0]], tensors[name + ends[1]]) for name in names}


@torch.no_grad()
def _fill(
    adapted: PeftModel, factors: Mapping[str, tuple[Tensor, Tensor]], trained: PeftModel, head: Sequence[str]
) -> None:
    """The factors, and the trained head. PEFT's conversion loses the names of a head of several layers."""
    for name, (a, b) in factors.items():
        layer: Any = adapted.get_submodule(PREFIX + name)
        layer.lora_A["default"].weight.copy_(a)
        layer.lora_B["default"].weight.copy_(b)
    for name in head:
        source: Any = trained.get_submodule(PREFIX + name)
        target: Any = adapted.get_submodule(PREFIX + name)
        target.modules_to_save["default"].load_state_dict(source.modules_to_save["default"].state_dict())
