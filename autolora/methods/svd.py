"""No search at all: uniform LoRA, compressed after its training with PEFT's own conversion (``svd``).

`peft.convert_to_lora` decomposes every layer's update and, given a share of the squared singular values to keep, gives
each layer the rank that this share needs. The share is chosen so that the ranks add up to AutoLoRA's, of the same
recipe and seed. `size` is the rank before compression; it is k where none is given. Nothing is trained afterwards.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from peft import PeftModel, convert_to_lora
from peft.tuners.lora import Linear
from torch import Tensor, nn
from transformers import PreTrainedModel
from typing_extensions import override

from autolora.context.base import Context
from autolora.lora.adapter import base_name, in_adapter, lora_layers, set_factors
from autolora.lora.exact import counted_parameters
from autolora.lora.ranks import Ranks
from autolora.methods.base import AUTOLORA, PeftMethod, method_of
from autolora.recipe.schema import MethodSettings, Recipe
from autolora.runs.store import Run
from autolora.training.finetune import Training


class Svd(PeftMethod):
    """A uniform LoRA's own training, and its cost, with the ranks found afterwards."""

    searches, trains, adapts_layers = False, False, True

    @classmethod
    @override
    def needs(cls, recipe: Recipe) -> tuple[MethodSettings, ...]:
        return AUTOLORA, _uniform(recipe)

    @override
    def check(self) -> None:
        for settings in self.needs(self.recipe):
            self.base_run(settings)

    @override
    def adapt(self, model: PreTrainedModel, head: Sequence[str], context: Context, total: int) -> Training:
        uniform = self.base_run(_uniform(self.recipe))
        begun = time.monotonic()
        trained = method_of(uniform).load(context.model(), context)
        assert isinstance(trained, PeftModel)
        share = share_for(_energies(trained), self.budget())
        factors = _compress(trained, share)
        by_name = {name: a.shape[0] for name, (a, _) in factors.items()}
        adapted = self.at_ranks(_folded(by_name), model, head, context)
        _fill(adapted, factors, trained, head)
        self._add_cost(uniform, time.monotonic() - begun)
        # The ranks for others who train at them, with everybody's scaling.
        shapes = {name: (a.shape[1], b.shape[0]) for name, (a, b) in factors.items()}
        initial = _uniform(self.recipe).size or self.recipe.search.rank
        found = Ranks(by_name, initial, shapes=shapes, rule={"share": share})
        found = found.scaled(self.recipe.retrain_alpha, self.recipe.retrain.scaling, rank=self.recipe.search.rank)
        found.save(self.run.path / "retrain" / "ranks.json")
        return Training(adapted)

    @override
    def load(self, base: PreTrainedModel, context: Context) -> nn.Module:
        return self.load_at(_folded(self.run.ranks()), base, context)

    @override
    def parameters(self, trained: nn.Module, head: Sequence[str]) -> dict[str, int]:
        return counted_parameters(trained, self.run.ranks(), head)

    def _add_cost(self, uniform: Run, seconds: float) -> None:
        """What the uniform LoRA's training took is this method's cost too."""
        spent = uniform.manifest()["stages"]["retrain"]
        kept = ("steps", "forward_passes", "backward_passes", "peak_memory_mib")
        self.run.note(
            "retrain", seconds=round(spent["seconds"] + seconds, 2), **{key: spent[key] for key in kept if key in spent}
        )


def _folded(by_name: Mapping[str, int]) -> Ranks:
    """The ranks as the adapter has them. Scaling is part of its factors: lora_alpha / rank is 1 everywhere."""
    size = max(by_name.values())
    return Ranks(dict(by_name), initial_rank=size, lora_alpha=float(size))


def _uniform(recipe: Recipe) -> MethodSettings:
    """The uniform LoRA that is compressed."""
    rate = recipe.method.learning_rate if recipe.method.name == "svd" else None
    size = recipe.method.size if recipe.method.name == "svd" else None
    targets = recipe.method.targets if recipe.method.name == "svd" else None
    return MethodSettings(name="lora", size=size or recipe.search.rank, learning_rate=rate, targets=targets)


def share_for(energies: Mapping[str, Tensor], budget: int) -> float:
    """The share of squared singular values that gives the layers ranks with the sum `budget`, or the nearest below it.

    Args:
        energies: For every layer the share that its first 1, 2, … components hold, ascending to 1. A layer's rank is
            the least that holds the wanted share, and at least 1.
        budget: The sum of the ranks.
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
    for name, layer in lora_layers(trained).items():
        linear = cast(Linear, layer)  # targets are linear layers
        squares = torch.linalg.svdvals(linear.get_delta_weight("default").float()).square()
        found[name] = (squares.cumsum(0) / squares.sum()).cpu()
    return found


def _compress(trained: PeftModel, share: float) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B of every layer by PEFT's conversion, by full module name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this is LoRA already, and that there is typically no need
        _, tensors = convert_to_lora(trained, rank=share)
    ends = (".lora_A.weight", ".lora_B.weight")
    names = [key.removesuffix(ends[0]) for key in tensors if key.endswith(ends[0])]
    return {base_name(name): (tensors[name + ends[0]], tensors[name + ends[1]]) for name in names}


@torch.no_grad()
def _fill(
    adapted: PeftModel, factors: Mapping[str, tuple[Tensor, Tensor]], trained: PeftModel, head: Sequence[str]
) -> None:
    """The factors, and the trained head. PEFT's conversion loses the names of a head of several layers."""
    for name, (a, b) in factors.items():
        set_factors(adapted, name, a, b)
    for name in head:
        state = in_adapter(trained, name).modules_to_save["default"].state_dict()
        in_adapter(adapted, name).modules_to_save["default"].load_state_dict(state)
