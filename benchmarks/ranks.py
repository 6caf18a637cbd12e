"""How well rules for ranks recover planted ones, and what their models are worth: ``make bench-ranks``.

Truths: `autolora.planted.truth`, a four-block transformer with 24 linear layers whose teacher differs by updates of
known ranks: sparse (rank 4 in 6 layers), mixed (ranks 1 to 7 in 12), flat (rank 1 in all 24). Students see 1024
examples with the teacher's outputs; the error is the squared error on 1024 others, relative to the base's. Every rule
but "rank 8" has the parameters of the true ranks, or the nearest number below. Same rate, schedule, batches and steps.

    python -m benchmarks.ranks --seeds 1 --truths mixed --steps 200 --rules uniform fisher     # a short version

A seed's four runs that begin at rank 8 share their first half. Cost: optimiser steps, in those of one training; a step
of the search counts as three, about what its passes take.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import torch

from autolora.planted.recovery import gap_closed
from autolora.tables import to_markdown
from benchmarks.planted import BATCH, RANK, RATE, Outcome, Trial, best_of_each, by_saliency, by_score, scaled

SEARCH_COST = 3
TRUTHS = ("sparse", "mixed", "flat")


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
    "saliency4": (
        "the same, stepping z at every 4th step",
        1 + SEARCH_COST / 2,
        lambda trial: trial.from_scratch(by_saliency(trial, 4)),
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
    found = {rule: RULES[rule][2](trial) for rule in rules}
    errors = ", ".join(f"{rule} {outcome.error:.3f}" for rule, outcome in found.items())
    print(f"{kind}, seed {seed}: {errors}", file=sys.stderr, flush=True)
    return found


Results = dict[str, list[dict[str, Outcome]]]
"""By truth: a dictionary of rules for every seed."""


def run_trials(truths: Sequence[str], seeds: int, steps: int, rules: Sequence[str], jobs: int) -> Results:
    """All truths and seeds, so many at a time."""
    if jobs == 1:
        return {kind: [run_trial(kind, seed, steps, rules) for seed in range(seeds)] for kind in truths}
    with ProcessPoolExecutor(jobs) as pool:
        waiting = [{kind: pool.submit(run_trial, kind, seed, steps, rules) for kind in truths} for seed in range(seeds)]
        return {kind: [each[kind].result() for each in waiting] for kind in truths}


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
