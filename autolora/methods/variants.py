"""LoRA at one rank everywhere, changed in one respect, through PEFT: ``rslora``, ``dora``, ``lora-fa``, ``lora-plus``.

W: (m, n)  a target layer's weights   A: (r, n), B: (m, r)  its factors   s  their scaling, lora_alpha / k in `lora:R`

- ``rslora:R`` (Kalajdzievski 2023): s = lora_alpha / √r instead of what `retrain.scaling` says.
- ``dora:R`` (Liu et al. 2024): g ⊙ (W + s B A) / ‖W + s B A‖, with a norm and a trained magnitude g for each output; g
  begins as the norms of W. As in section 4.3 of the paper, and in PEFT, no gradient goes through the norms. m more
  parameters a layer.
- ``lora-fa:R`` (Zhang et al. 2023): A stays as it was drawn, B alone is trained: r m parameters a layer.
- ``lora-plus:R`` (Hayou et al. 2024): B learns `method.ratio` times as fast as A, 16 times where nothing is said.

Where they differ from PEFT's own helpers, which are optimisers, while here every method has the same one:

- PEFT's LoRA-FA optimiser gives Adam g (A Aᵀ)⁻¹ / s² in place of B's gradient g, which the paper's algorithm has not. A
  is drawn with independent entries, so A Aᵀ is near a multiple of the identity wherever n is much larger than r; Adam
  does not see a factor, so what is left of the correction is small. It also computes the correction in bfloat16.
- PEFT's LoRA+ optimiser lets all vectors learn as fast as B, a head's bias among them; here every method trains
  the head alike, and the ratio is B's alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor, nn
from transformers import PreTrainedModel
from typing_extensions import override

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.lora.adapter import in_adapter
from autolora.lora.exact import factors_cost
from autolora.lora.ranks import Ranks
from autolora.lora.stored import WRAPPED, Shape
from autolora.lora.targets import input_output_features, target_shapes
from autolora.methods.peft import RankedLora
from autolora.recipe.method import RATIO
from autolora.recipe.schema import Recipe
from autolora.training.finetune import Training


class OneRank(RankedLora):
    """LoRA of rank `method.size` in every target; the ranks are in ``retrain/ranks.json``, with their scaling."""

    searches = False

    @classmethod
    @override
    def check_recipe(cls, recipe: Recipe) -> None:
        cls.size_in(recipe.method)

    @override
    def check(self) -> None:
        self.check_recipe(self.recipe)

    @override
    def adapt(self, model: PreTrainedModel, head: Sequence[str], context: Context, total: int) -> Training:
        shapes = target_shapes(model, context.targets(model))
        ranks = self.scaled(self.given(dict.fromkeys(shapes, self.size), shapes))
        if context.main:
            ranks.save(self.run.path / "retrain" / "ranks.json")
        context.compute.wait()
        try:
            return self.training(ranks, model, head, context)
        except (ValueError, NotImplementedError, TypeError) as error:  # PEFT's, of layers that it cannot do
            raise UserError(
                f"{self.settings.name}: PEFT makes no such adapter of these layers ({error}); take another method, or "
                "other layers (model.target_modules)"
            ) from error

    def scaled(self, ranks: Ranks) -> Ranks:
        """The ranks with the scaling that they are trained with: the recipe's, as alpha / rank.

        Args:
            ranks: With that of the search.
        """
        return ranks.scaled(self.recipe.retrain_alpha, self.recipe.retrain.scaling).at(self.size)

    def training(self, ranks: Ranks, model: PreTrainedModel, head: Sequence[str], context: Context) -> Training:
        """See `adapt`.

        Args:
            ranks: With their scaling.
            model: The pretrained model.
            head: Full names of the head's modules.
            context: Of the run.
        """
        return Training(self.at_ranks(ranks, model, head, context))


class RsLora(OneRank):
    """Rank-stabilised LoRA: lora_alpha / √r, so that updates of every rank learn alike."""

    @override
    def scaled(self, ranks: Ranks) -> Ranks:
        return Ranks(
            ranks.by_name,
            initial_rank=self.size,
            lora_alpha=self.recipe.retrain_alpha,
            scaling="rank_stabilised",
            shapes=ranks.shapes,
        )


class Dora(OneRank):
    """Weight-decomposed LoRA: the direction of every output's weights by LoRA, their length by itself."""

    @override
    def configure(self, config: LoraConfig) -> None:
        config.use_dora = True

    @override
    def stored_shapes(self, base: PreTrainedModel, ranks: Ranks, head: Sequence[str]) -> dict[str, Shape]:
        outputs = {name: input_output_features(base.get_submodule(name))[1] for name in ranks.targets}
        magnitudes = {f"{WRAPPED}{name}.lora_magnitude_vector": (m,) for name, m in outputs.items()}
        return {**super().stored_shapes(base, ranks, head), **magnitudes}

    @staticmethod
    @override
    def cost(rank: int, inputs: int, outputs: int) -> int:
        return factors_cost(rank, inputs, outputs) + outputs


class LoraFa(OneRank):
    """LoRA with frozen A: the layers' inputs need not be kept for the backward pass, A's outputs alone."""

    @override
    def training(self, ranks: Ranks, model: PreTrainedModel, head: Sequence[str], context: Context) -> Training:
        adapted = self.at_ranks(ranks, model, head, context)
        frozen = {name: in_adapter(adapted, name).lora_A["default"].weight for name in ranks.targets}
        for a in frozen.values():
            a.requires_grad_(False)
        return Training(adapted, Frozen(frozen))

    @staticmethod
    @override
    def cost(rank: int, inputs: int, outputs: int) -> int:
        return rank * outputs


class Frozen:
    """Keeps what was drawn and is not trained in the checkpoint: whoever goes on has the same, wherever it is.

    Args:
        tensors: By name; loaded in place.
    """

    def __init__(self, tensors: Mapping[str, nn.Parameter]) -> None:
        self.tensors = dict(tensors)

    def after_step(self, done: int) -> None:
        """Nothing: they stay.

        Args:
            done: Optimiser steps taken.
        """

    def state(self) -> dict[str, Tensor]:
        """All of them, by "#frozen/" and the name."""
        return {f"#frozen/{name}": tensor.detach() for name, tensor in self.tensors.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `state`.

        Args:
            tensors: A checkpoint's, those of others among them.
        """
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                tensor.copy_(tensors[f"#frozen/{name}"])


class LoraPlus(OneRank):
    """LoRA whose B learns `method.ratio` times as fast as all else."""

    @override
    def training(self, ranks: Ranks, model: PreTrainedModel, head: Sequence[str], context: Context) -> Training:
        adapted, ratio = self.at_ranks(ranks, model, head, context), self.settings.ratio or RATIO
        layers: dict[str, Any] = {name: in_adapter(adapted, name) for name in ranks.targets}
        faster = {id(layer.lora_B["default"].weight) for layer in layers.values()}
        return Training(adapted, factors={name: ratio for name, p in adapted.named_parameters() if id(p) in faster})
