"""How well rules for ranks recover planted ones, and what their models are worth: ``make bench-ranks``.

Truths: `autolora.planted.truth`, a four-block transformer with 24 linear layers whose teacher differs by updates of
known ranks: sparse (rank 4 in 6 layers), mixed (ranks 1 to 7 in 12), flat (rank 1 in all 24). Students see 1024
examples with the teacher's outputs; the error is the squared error on 1024 others, relative to the base's. Every rule
but "rank 8" has the parameters of the true ranks, or the nearest number below. Same rate, schedule, batches and steps.

    python benchmarks/ranks.py --seeds 1 --truths mixed --steps 200 --rules uniform fisher     # a short version

A seed's four runs that begin at rank 8 share their first half. Cost: optimiser steps, in those of one training; a step
of the search counts as three, about what its passes take.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
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
from autolora.methods.uniform import nearest_uniform
from autolora.planted.recovery import gap_closed, module_auc, rank_correlation
from autolora.planted.truth import Truth, plant
from autolora.recipe.schema import Search, Weights
from autolora.registry import SCORES
from autolora.tables import to_markdown
from autolora.training.optimizers import ScheduledOptimizer
from autolora.training.seeds import derive, generator, seed_torch

RANK, ALPHA, BATCH = 8, 16.0, 32
EXAMPLES, TESTED, MEASURED = 1024, 1024, 192
RATE = Weights(learning_rate=1e-2, warmup=0.06)
AT = 0.5  # share of the steps before a squeeze
SEARCH_COST = 3
TRUTHS = ("sparse", "mixed", "flat")


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


def by_saliency(trial: Trial) -> dict[str, int]:
    evidence = Evidence(saliency=trial.searched.rule["saliency"])
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


RULES: dict[str, tuple[str, float, Callable[[Trial], Outcome]]] = {  # title, cost, how
    "uniform": ("uniform ranks", 1, lambda trial: trial.from_scratch(trial.uniform)),
    "true": ("the true ranks, from scratch", 1, lambda trial: trial.from_scratch(trial.truth.ranks)),
    "rank8": ("rank 8 everywhere (larger)", 1, lambda trial: trial.from_half(None)),
    "count": (
        "AutoLoRA's count above 1/k, scaled to the budget",
        1 + SEARCH_COST,
        lambda trial: trial.from_scratch(scaled(trial.searched, trial.costs, trial.truth.parameters)),
    ),
    "saliency": (
        "the same search read by its saliency",
        1 + SEARCH_COST,
        lambda trial: trial.from_scratch(by_saliency(trial)),
    ),
    "spectrum": (
        "spectrum with one budget, squeezed at half time",
        1,
        lambda trial: trial.from_half(partial(by_score, "spectrum", trial)),
    ),
    "even": (
        "uniform ranks, squeezed at half time",
        1,
        lambda trial: trial.from_half(partial(best_of_each, trial)),
    ),
    "fisher": (
        "Fisher of the gates, squeezed at half time",
        1,
        lambda trial: trial.from_half(partial(by_score, "fisher", trial)),
    ),
}


def run_trial(kind: str, seed: int, steps: int, rules: Sequence[str]) -> dict[str, Outcome]:
    """All rules on one truth and seed."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=FutureWarning)
    trial = Trial(kind, seed, steps)
    return {rule: RULES[rule][2](trial) for rule in rules}


Results = dict[str, list[dict[str, Outcome]]]
"""By truth: a dictionary of rules for every seed."""


def run_trials(truths: Sequence[str], seeds: int, steps: int, rules: Sequence[str], jobs: int) -> Results:
    """All truths and seeds, so many at a time."""
    if jobs == 1:
        return {kind: [run_trial(kind, seed, steps, rules) for seed in range(seeds)] for kind in truths}
    with ProcessPoolExecutor(jobs) as pool:
        waiting = {kind: [pool.submit(run_trial, kind, seed, steps, rules) for seed in range(seeds)] for kind in truths}
        return {kind: [each.result() for each in found] for kind, found in waiting.items()}


def error_rows(results: Results, rules: Sequence[str]) -> Iterator[dict[str, Any]]:
    for rule in rules:
        cells = {kind: spread([each[rule].error for each in found]) for kind, found in results.items()}
        yield {"rule": RULES[rule][0], **cells, "cost": f"{RULES[rule][1]:g}"}


def recovery_rows(results: Results, rules: Sequence[str]) -> Iterator[dict[str, Any]]:
    for rule in rules:
        row: dict[str, Any] = {"rule": RULES[rule][0]}
        for kind, found in results.items():
            row[f"{kind}: AUC"] = average([each[rule].auc for each in found])
            row[f"{kind}: Spearman"] = average([each[rule].correlation for each in found])
            row[f"{kind}: gap closed"] = gap(found, rule)
            row[f"{kind}: size"] = average([each[rule].size for each in found])
        yield row


def gap(found: Sequence[Mapping[str, Outcome]], rule: str) -> str:
    """Of the mean errors: a single seed's gap may be almost none."""
    if not all({"uniform", "true"} <= set(each) for each in found):
        return "-"
    means = [statistics.fmean(each[name].error for each in found) for name in (rule, "uniform", "true")]
    closed = gap_closed(*means)
    return "-" if closed is None else f"{closed:.0%}"


def spread(values: Sequence[float]) -> str:
    mean = statistics.fmean(values)
    return f"{mean:.3f} ± {statistics.stdev(values):.3f}" if len(values) > 1 else f"{mean:.3f}"


def average(values: Sequence[float | None]) -> str:
    present = [value for value in values if value is not None]
    return f"{statistics.fmean(present):.2f}" if present else "-"


def main() -> None:
    options = arguments()
    begun = time.monotonic()
    results = run_trials(options.truths, options.seeds, options.steps, options.rules, options.jobs)
    print(
        f"Relative test error, mean ± standard deviation of {options.seeds} seeds; {options.steps} steps, "
        f"batch {BATCH}, rate {RATE.learning_rate:g}, k = {RANK}; cost in trainings\n"
    )
    print(to_markdown(list(error_rows(results, options.rules))))
    print("How well planted ranks were recovered (AUC: 0.5 is chance); size: parameters, in those of the true ranks\n")
    print(to_markdown(list(recovery_rows(results, options.rules))))
    print(f"{time.monotonic() - begun:.0f} s, {options.jobs} processes of one thread, torch {torch.__version__}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Rules for ranks on planted truth.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=500, help="of a training, and of a search")
    parser.add_argument("--truths", nargs="+", choices=TRUTHS, default=list(TRUTHS))
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    return parser.parse_args()


if __name__ == "__main__":
    main()
