"""AdaLoRA (Zhang et al., ICLR 2023), PEFT's: components are dropped by importance while it trains (``adalora``).

Budget: the ranks add up to AutoLoRA's, of the same recipe and seed, exactly. It begins with 1.5 times as much, as in
its paper, keeps that for the first 10 % of the steps, and has its final ranks for the last 30 %. Its scaling is
constant, as everything's here: lora_alpha / k. PEFT's schedule is called after every optimiser step, and its
orthogonality penalty is part of the loss (PEFT adds it only to losses that the model computes itself).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from peft import AdaLoraConfig, AdaLoraModel, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel
from typing_extensions import override

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.lora.adapter import base_name, in_adapter, uses_conv1d
from autolora.lora.config import exact_type, target_expression
from autolora.lora.frozen import as_float32, widen_rest
from autolora.lora.loading import check, check_tensors, head_shapes
from autolora.lora.parameters import trainable_parameters
from autolora.lora.ranks import Ranks
from autolora.lora.stored import CONFIG, WRAPPED, Shape, read_config
from autolora.lora.targets import input_output_features, target_shapes
from autolora.methods.budgets import Budgeted
from autolora.methods.faults import explained
from autolora.methods.peft import PeftMethod
from autolora.recipe.method import budget_of
from autolora.training.finetune import Training

WARM_UP, FINAL, START = 0.1, 0.3, 1.5  # shares of the steps, and the first budget as a multiple of the last


class AdaLora(Budgeted, PeftMethod):
    """Its final ranks are in ``retrain/ranks.json``."""

    searches, adapts_layers = False, True

    @override
    def check(self) -> None:
        _ = self.source

    @override
    def identity(self) -> list[object]:
        source = self.source
        size = budget_of(self.recipe).given if source is None else source.total
        return [*super().identity(), size, self.recipe.retrain_dropout]

    @override
    def adapt(self, model: PreTrainedModel, head: Sequence[str], context: Context, total: int) -> Training:
        shapes = target_shapes(model, context.targets(model))
        names, budget = list(shapes), self.rank_budget(shapes)
        start = math.ceil(START * budget / len(names))
        first, last = max(1, round(WARM_UP * total)), round(FINAL * total)
        if first >= total - last:
            raise UserError(
                f"adalora: {total} steps are too few for its schedule; raise retrain.steps or retrain.epochs"
            )
        config = AdaLoraConfig(
            init_r=start,
            target_r=max(1, budget // len(names)),  # the exact budget is set below
            tinit=first,
            tfinal=last,
            deltaT=max(1, total // 100),
            total_step=total,
            lora_alpha=self.recipe.retrain_alpha * start / self.recipe.search.rank,  # type: ignore[arg-type]  # as in lora.config
            lora_dropout=self.recipe.retrain_dropout,
            target_modules=target_expression(names),
            modules_to_save=list(head) or None,
            task_type=context.task.peft_task_type,
            fan_in_fan_out=uses_conv1d(model, names),
        )
        exact_type(model, config)
        with as_float32(model):
            adapted = get_peft_model(model, config)
        widen_rest(adapted)
        _tuner(adapted).rankallocator.target_bgt = budget
        weight = config.orth_reg_weight
        factors = [(p, ".lora_A." in n) for n, p in adapted.named_parameters() if ".lora_A." in n or ".lora_B." in n]
        whole = total - last  # from there on the ranks are the final ones
        return Training(adapted, Allocation(adapted), lambda: weight * orthogonality(factors), whole_from=whole)

    @override
    def load(self, base: PreTrainedModel, context: Context) -> nn.Module:
        ranks, head, folder = self.run.ranks(), context.head(base), self.run.path / "adapter"
        with explained(self.run), warnings.catch_warnings():
            check(folder / CONFIG, _config_faults(read_config(folder), ranks, head))
            check_tensors(folder, {**_shapes(base, ranks), **head_shapes(base, head)})
            # PEFT takes its own masks for ranks of LoRA, finds no module of such names, and says so.
            warnings.filterwarnings("ignore", message="The following rank_pattern keys did not match")
            return PeftModel.from_pretrained(base, folder).to(context.compute.device)

    def ranks(self, trained: nn.Module) -> dict[str, int]:
        """The rank that each layer has been left with, by full module name.

        Args:
            trained: The adapted model, after PEFT has allocated the budget.
        """
        pattern = _config(trained).rank_pattern
        assert pattern is not None, "adalora has not allocated its budget yet"
        return {base_name(key).partition(".lora_E")[0]: sum(mask) for key, mask in pattern.items()}

    @override
    def parameters(self, trained: nn.Module, head: Sequence[str]) -> dict[str, int]:
        """Those of the final ranks; in training there were more, which is noted beside."""
        counts = trainable_parameters(trained, head)
        ranks = self.ranks(trained)
        components = 0
        for name, rank in ranks.items():
            layer = in_adapter(trained, name)
            components += rank * (layer.in_features + layer.out_features + 1)
        return {
            "trainable_parameters": components + counts["head_parameters"],
            "head_parameters": counts["head_parameters"],
            "parameters_in_training": counts["trainable_parameters"],
        }

    @override
    def save(self, trained: nn.Module, head: Sequence[str], context: Context) -> None:
        ranks = self.ranks(trained)
        config = _config(trained)
        layers = {name: in_adapter(trained, name) for name in ranks}
        shapes = {name: (layer.in_features, layer.out_features) for name, layer in layers.items()}
        budget = self.rank_budget(shapes)
        if sum(ranks.values()) != budget:
            raise RuntimeError(f"adalora ended at a total rank of {sum(ranks.values())}, not {budget}")
        found = Ranks(ranks, initial_rank=config.init_r, lora_alpha=config.lora_alpha, shapes=shapes)
        found.save(self.run.path / "retrain" / "ranks.json")
        super().save(trained, head, context)


def _shapes(model: nn.Module, ranks: Ranks) -> dict[str, Shape]:
    """The tensors of an adapter at these ranks, by the name in PEFT's file."""
    found: dict[str, Shape] = {}
    for name, rank in ranks.items():
        n, m = input_output_features(model.get_submodule(name))
        for part, shape in (("A", (rank, n)), ("B", (m, rank)), ("E", (rank, 1))):
            found[f"{WRAPPED}{name}.lora_{part}"] = shape
    return found


def _config_faults(config: Mapping[str, Any], ranks: Ranks, head: Sequence[str]) -> Iterator[str]:
    """What in the configuration is not as ranks and head say; its rank_pattern is a mask of components by layer."""
    kept = {base_name(key).partition(".lora_E")[0]: sum(mask) for key, mask in config["rank_pattern"].items()}
    for name in sorted(kept.keys() | ranks.keys()):
        if kept.get(name) != ranks.get(name):
            yield f"{name} has the rank {kept.get(name)}, but should have {ranks.get(name)}"
    for key, wanted in (("peft_type", "ADALORA"), ("init_r", ranks.initial_rank), ("lora_alpha", ranks.lora_alpha)):
        if config[key] != wanted:
            yield f"{key} is {config[key]!r}, but should be {wanted!r}"
    for name in head:
        if name not in (config["modules_to_save"] or ()):
            yield f"{name} is not among the modules_to_save"


def _config(trained: nn.Module) -> AdaLoraConfig:
    assert isinstance(trained, PeftModel)
    config = trained.peft_config["default"]
    assert isinstance(config, AdaLoraConfig)
    return config


def _tuner(adapted: PeftModel) -> AdaLoraModel:
    return cast(AdaLoraModel, adapted.base_model)  # PEFT leaves the type of its tuner open


class Allocation:
    """PEFT's rank allocator, called after every step; its averages and masks are part of the checkpoint.

    Args:
        adapted: The model with an adapter of AdaLoRA's.
    """

    KINDS = ("ipt", "exp_avg_ipt", "exp_avg_unc")

    def __init__(self, adapted: PeftModel) -> None:
        self.tuner, self.config = _tuner(adapted), _config(adapted)

    def after_step(self, done: int) -> None:
        """Let PEFT update the importances, and drop components where its schedule says so.

        Args:
            done: Optimiser steps taken.
        """
        self.tuner.update_and_allocate(done)

    def state(self) -> dict[str, Tensor]:
        """The averages of importance ("#ipt/…", "#exp_avg_…/…") and the masks of components ("#mask/…"), by name."""
        kept = {
            f"#{kind}/{name}": tensor
            for kind in self.KINDS
            for name, tensor in getattr(self.tuner.rankallocator, kind).items()
        }
        masks = {f"#mask/{name}": torch.tensor(mask) for name, mask in (self.config.rank_pattern or {}).items()}
        return {**kept, **masks}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `state`.

        Args:
            tensors: A checkpoint's, those of others among them.
        """
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
    """Mean over the factors of ‖A Aᵀ - I‖ and ‖Bᵀ B - I‖.

    AdaLoRA's equation 4, with the norm, as PEFT has it, instead of its square.

    Args:
        factors: Pairs of a matrix and whether it is an A of shape (r, n); else it is a B of shape (m, r).

    Returns:
        A scalar with its graph.
    """
    norms = []
    for matrix, is_a in factors:
        gram = matrix @ matrix.T if is_a else matrix.T @ matrix
        norms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device, dtype=gram.dtype)))
    return torch.stack(norms).mean()
