"""One planted truth and seed, and the trainings that rules for ranks are compared by (`benchmarks/ranks.py`).

trial = Trial("mixed", seed=0, steps=500)
trial.from_scratch(trial.uniform).error
trial.from_half(partial(by_score, "fisher", trial)).error
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from autolora.allocation.budget import Kept, choose
from autolora.allocation.components import components_of
from autolora.allocation.compress import compress, ranks_of
from autolora.allocation.evidence import Evidence
from autolora.allocation.gates import measure_gates
from autolora.allocation.likelihood import Predictive
from autolora.allocation.rows import rows_of
from autolora.bilevel.find import find_ranks
from autolora.lora.adapter import add_adapter, lora_layers
from autolora.lora.config import lora_config
from autolora.lora.ranks import Ranks
from autolora.methods.budgets import nearest_uniform
from autolora.planted.recovery import module_auc, rank_correlation
from autolora.planted.truth import Truth, plant
from autolora.recipe.schema import Search, Weights
from autolora.recipe.stages import Selection
from autolora.registry import SCORES
from autolora.training.optimizers import ScheduledOptimizer
from autolora.training.seeds import derive, generator, seed_torch

RANK, ALPHA, BATCH = 8, 16.0, 32
EXAMPLES, TESTED, MEASURED = 1024, 1024, 192
RATE = Weights(learning_rate=1e-2, warmup=0.06)
AT = 0.5  # share of the steps before a squeeze


@dataclass(frozen=True)
class Outcome:
    """One rule on one truth and seed."""

    error: float
    ranks: dict[str, int]
    size: float  # parameters, in those of the true ranks
    auc: float | None
    correlation: float | None


class Trial:
    """One truth and seed; what several rules need is made once."""

    def __init__(self, kind: str, seed: int, steps: int) -> None:
        self.seed, self.steps = seed, steps
        self.truth: Truth = plant(kind, seed)  # type: ignore[arg-type]  # argparse has checked it
        self.inputs, self.outputs = self.truth.data(EXAMPLES, "train")
        self.costs = {name: sum(shape) for name, shape in self.truth.shapes.items()}

    @property
    def half(self) -> int:
        return round(AT * self.steps)

    @cached_property
    def test(self) -> tuple[Tensor, Tensor, float]:
        """Inputs, outputs, and the base's squared error on them."""
        inputs, outputs = self.truth.data(TESTED, "test")
        with torch.no_grad():
            return inputs, outputs, float((self.truth.base(input_ids=inputs).logits - outputs).square().sum())

    @cached_property
    def uniform(self) -> dict[str, int]:
        return nearest_uniform(self.costs, self.truth.parameters)

    @cached_property
    def begun(self) -> tuple[PeftModel, ScheduledOptimizer]:
        """Rank 8 everywhere after the first half of its training."""
        model = self.student(dict.fromkeys(self.costs, RANK))
        optimizer = self.optimizer(model)
        self.train(model, optimizer, 0, self.half)
        return model, optimizer

    @cached_property
    def searched(self) -> Ranks:
        """What AutoLoRA finds, with selection variables and saliencies."""
        return self.search()

    def search(self, every: int = 1) -> Ranks:
        """The same with selection variables stepped at every n-th step."""
        halves = torch.randperm(EXAMPLES, generator=generator(derive(self.seed, "split"))).chunk(2)
        train, validation = (
            [self.batch(part, derive(self.seed, "search", i), step) for step in range(self.steps)]
            for i, part in enumerate(halves)
        )
        settings = Search(
            steps=self.steps,
            rank=RANK,
            lora_alpha=ALPHA,
            lora_dropout=0.0,
            estimator="forward_difference",
            weights=RATE,
            selection=Selection(every=every),
        )
        return find_ranks(
            self.truth.student(),
            train,
            validation,
            mean_loss,
            settings,
            target_modules=list(self.costs),
            seed=self.seed,
        )

    def batch(self, among: Tensor, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """Of some examples, drawn anew at every step."""
        chosen = among[torch.randint(len(among), (BATCH,), generator=generator(derive(seed, step)))]
        return self.inputs[chosen], self.outputs[chosen]

    def student(self, by_name: Mapping[str, int]) -> PeftModel:
        """The base with a fresh LoRA at these ranks, all at the scaling of rank 8."""
        ranks = Ranks(by_name, initial_rank=RANK, lora_alpha=ALPHA)
        seed_torch(derive(self.seed, "student"))
        return add_adapter(self.truth.student(), ranks, lora_config(ranks, task_type="TOKEN_CLS")).train()

    def optimizer(self, model: nn.Module) -> ScheduledOptimizer:
        return ScheduledOptimizer(lora_parameters(model), RATE, self.steps)

    def train(self, model: nn.Module, optimizer: ScheduledOptimizer, begin: int, end: int) -> None:
        every = torch.arange(EXAMPLES)
        for step in range(begin, end):
            loss = mean_loss(model, self.batch(every, derive(self.seed, "batches"), step))
            optimizer.apply(torch.autograd.grad(loss, list(optimizer.named.values())), step)

    def from_scratch(self, by_name: Mapping[str, int]) -> Outcome:
        model = self.student(by_name)
        self.train(model, self.optimizer(model), 0, self.steps)
        return self.outcome(model, by_name)

    def from_half(self, kept: Callable[[Evidence], Kept] | None) -> Outcome:
        """Rank 8, squeezed at half time to what `kept` says of its components; None: not squeezed."""
        model, optimizer = copy.deepcopy(self.begun)
        found = dict.fromkeys(self.costs, RANK)
        if kept is not None:
            evidence = self.evidence(model)
            chosen = kept(evidence)
            found = dict(ranks_of(evidence.components, chosen))
            compress(model, evidence.components, chosen)
            optimizer.renew(lora_parameters(model), self.half)
        self.train(model, optimizer, self.half, self.steps)
        return self.outcome(model, found)

    def evidence(self, model: PeftModel) -> Evidence:
        layers: dict[str, Any] = dict(lora_layers(model))
        components = components_of(layers)
        chosen = torch.randperm(EXAMPLES, generator=generator(derive(self.seed, "measured")))[:MEASURED]
        batches = [{"input_ids": self.inputs[part]} for part in torch.split(chosen, 64)]
        loss = Predictive(model, model.get_base_model(), "gaussian").sampled
        rows = [(batch, rows_of(batch)) for batch in batches]
        return Evidence(components, measure_gates(model, layers, components, rows, loss, seed=self.seed))

    @torch.no_grad()
    def outcome(self, model: nn.Module, by_name: Mapping[str, int]) -> Outcome:
        inputs, outputs, base = self.test
        error = float((model.eval()(input_ids=inputs).logits - outputs).square().sum()) / base
        planted = self.truth.ranks
        return Outcome(
            error,
            dict(by_name),
            sum(rank * self.costs[name] for name, rank in by_name.items()) / self.truth.parameters,
            module_auc(by_name, planted),
            rank_correlation(by_name, planted),
        )


def mean_loss(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    loss: Tensor = (model(input_ids=batch[0]).logits - batch[1]).square().mean()
    return loss


def lora_parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in model.named_parameters() if "lora_" in name}


def by_score(score: str, trial: Trial, evidence: Evidence) -> Kept:
    """One budget over all layers."""
    return choose(SCORES.load(score)(evidence), trial.costs, trial.truth.parameters)


def best_of_each(trial: Trial, evidence: Evidence) -> Kept:
    """The control: uniform ranks, of each layer what is worth most by Fisher."""
    values = SCORES.load("fisher")(evidence)
    return {
        name: tuple(sorted(values[name].argsort(descending=True)[:rank].tolist()))
        for name, rank in trial.uniform.items()
    }


def by_saliency(trial: Trial, every: int = 1) -> dict[str, int]:
    searched = trial.searched if every == 1 else trial.search(every)
    evidence = Evidence(saliency=searched.rule["saliency"])
    return {name: len(kept) for name, kept in by_score("saliency", trial, evidence).items()}


def scaled(counts: Mapping[str, int], costs: Mapping[str, int], budget: int) -> dict[str, int]:
    """Ranks in proportion to the counts: rounded down, then one more by the largest remainder, within the budget."""
    factor = budget / sum(count * costs[name] for name, count in counts.items())
    ranks = {name: math.floor(count * factor) for name, count in counts.items()}
    left = budget - sum(rank * costs[name] for name, rank in ranks.items())
    for name in sorted(counts, key=lambda name: ranks[name] - counts[name] * factor):
        if costs[name] <= left:
            ranks[name], left = ranks[name] + 1, left - costs[name]
    return ranks
