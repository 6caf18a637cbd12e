"""AdaLoRA (Zhang et al., ICLR 2023), PEFT's: components are dropped by importance while it trains (``adalora``).

Budget: the ranks add up to AutoLoRA's, of the same recipe and seed, exactly. It begins with 1.5 times as much, as in
its paper, keeps that for the first 10 % of the steps, and has its final ranks for the last 30 %. Its scaling is
constant, as everything's here: lora_alpha / k. PEFT's schedule is called after every optimiser step, and its
orthogonality penalty is part of the loss (PEFT adds it only to losses that the model computes itself).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from autolora.errors import UserError
from autolora.files import write_json
from autolora.lab import Lab
from autolora.methods.base import AUTOLORA, PeftMethod, lora_dropout
from autolora.model.targets import target_modules
from autolora.recipe.schema import Method as Settings
from autolora.recipe.schema import Recipe
from autolora.retrain.adapter import uses_conv1d
from autolora.stages.steps import trainable_parameters

WARM_UP, FINAL, START = 0.1, 0.3, 1.5  # shares of the steps, and the first budget as a multiple of the last
PREFIX = "base_model.model."


class AdaLora(PeftMethod):
    """Its final ranks are in ``retrain/ranks.json``."""

    searches = False

    @classmethod
    def needs(cls, recipe: Recipe) -> tuple[Settings, ...]:
        return (AUTOLORA,)

    def check(self) -> None:
        self.source(AUTOLORA)

    def identity(self) -> list[Any]:
        return [*super().identity(), self.budget(), lora_dropout(self.recipe)]

    def adapt(self, model: PreTrainedModel, head: Sequence[str], lab: Lab, total: int) -> nn.Module:
        names, budget = list(target_modules(model, self.recipe.model.target_modules)), self.budget()
        start = math.ceil(START * budget / len(names))
        first, last = max(1, round(WARM_UP * total)), round(FINAL * total)
        if first >= total - last:
            raise UserError(
                f"adalora: {total} steps are too few for its schedule; raise retrain.steps or retrain.epochs"
            )
        alpha = self.recipe.retrain.lora_alpha or self.recipe.search.lora_alpha
        config = AdaLoraConfig(
            init_r=start,
            target_r=max(1, budget // len(names)),  # the exact budget is set below
            tinit=first,
            tfinal=last,
            deltaT=max(1, total // 100),
            total_step=total,
            lora_alpha=alpha * start / self.recipe.search.rank,
            lora_dropout=lora_dropout(self.recipe),
            target_modules=names,
            modules_to_save=list(head) or None,
            task_type=lab.task.peft_task_type,
            fan_in_fan_out=uses_conv1d(model, names),
        )
        adapted = get_peft_model(model, config).float()
        adapted.base_model.rankallocator.target_bgt = budget
        self.follower = Allocation(adapted)
        weight = config.orth_reg_weight
        factors = [(p, ".lora_A." in n) for n, p in adapted.named_parameters() if ".lora_A." in n or ".lora_B." in n]
        self.penalty = lambda: weight * orthogonality(factors)
        return cast(nn.Module, adapted)

    def load(self, base: PreTrainedModel, lab: Lab) -> nn.Module:
        with warnings.catch_warnings():
            # PEFT takes its own masks for ranks of LoRA, finds no module of such names, and says so.
            warnings.filterwarnings("ignore", message="The following rank_pattern keys did not match")
            return super().load(base, lab)

    def ranks(self, trained: nn.Module) -> dict[str, int]:
        pattern = trained.peft_config["default"].rank_pattern  # type: ignore[union-attr, index]
        return {key.removeprefix(PREFIX).partition(".lora_E")[0]: sum(mask) for key, mask in pattern.items()}

    def parameters(self, trained: nn.Module, head: Sequence[str]) -> dict[str, int]:
        """Those of the final ranks; in training there were more, which is noted beside."""
        counts = trainable_parameters(trained, head)
        ranks = self.ranks(trained)
        components = 0
        for name, rank in ranks.items():
            layer: Any = trained.get_submodule(PREFIX + name)
            components += rank * (layer.in_features + layer.out_features + 1)
        return {
            "trainable_parameters": components + counts["head_parameters"],
            "head_parameters": counts["head_parameters"],
            "parameters_in_training": counts["trainable_parameters"],
        }

    def save(self, trained: nn.Module, head: Sequence[str], lab: Lab) -> None:
        ranks = self.ranks(trained)
        if sum(ranks.values()) != self.budget():
            raise RuntimeError(f"adalora ended at a total rank of {sum(ranks.values())}, not {self.budget()}")
        record = {"initial_rank": trained.peft_config["default"].init_r, "ranks": ranks}  # type: ignore[union-attr, index]
        write_json(self.run.path / "retrain" / "ranks.json", record)
        super().save(trained, head, lab)


class Allocation:
    """PEFT's rank allocator, called after every step; its averages and masks are part of the checkpoint."""

    KINDS = ("ipt", "exp_avg_ipt", "exp_avg_unc")

    def __init__(self, adapted: PeftModel) -> None:
        self.tuner = adapted.base_model
        self.config = adapted.peft_config["default"]

    def after_step(self, done: int) -> None:
        self.tuner.update_and_allocate(done)

    def state(self) -> dict[str, Tensor]:
        kept = {
            f"#{kind}/{name}": tensor
            for kind in self.KINDS
            for name, tensor in getattr(self.tuner.rankallocator, kind).items()
        }
        masks = {f"#mask/{name}": torch.tensor(mask) for name, mask in (self.config.rank_pattern or {}).items()}
        return {**kept, **masks}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        for kind in self.KINDS:
            kept = self._under(kind, tensors)
            device = next(self.tuner.parameters()).device
            setattr(self.tuner.rankallocator, kind, {name: tensor.to(device) for name, tensor in kept.items()})
        masks = {name: mask.tolist() for name, mask in self._under("mask", tensors).items()}
        self.config.rank_pattern = masks or None

    @staticmethod
    def _under(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        front = f"#{kind}/"
        return {name.removeprefix(front): tensor for name, tensor in tensors.items() if name.startswith(front)}


def orthogonality(factors: Sequence[tuple[Tensor, bool]]) -> Tensor:
    """Mean over the factors of ‖A Aᵀ - I‖ and ‖Bᵀ B - I‖ (AdaLoRA's equation 4, with the norm, as PEFT has it, instead
    of its square).

    factors: (matrix, whether it is an A of shape (r, n); else a B of shape (m, r)).
    """
    norms = []
    for matrix, is_a in factors:
        gram = matrix @ matrix.T if is_a else matrix.T @ matrix
        norms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device, dtype=gram.dtype)))
    return torch.stack(norms).mean()
