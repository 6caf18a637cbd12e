"""Resident memory of a training with ranks of many sizes, beside one rank everywhere: ``make bench-rank-memory``.

A BERT of all-MiniLM-L6-v2's shape with random weights is trained by LoRA at rank 4 everywhere, and at ranks from 1 to 7
that are as many in all: batches of random tokens whose lengths are those of the same draw. Each training is a process
of its own, under each setting of the allocator and of oneDNN that `SETTINGS` names; its peak is the kernel's
(`ru_maxrss`), as a whole and beside what was resident before the first step.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import psutil
import torch
from transformers import BertConfig, BertForSequenceClassification

from autolora.lora.adapter import add_adapter
from autolora.lora.cast import cast_once
from autolora.lora.config import lora_config
from autolora.lora.ranks import Ranks
from autolora.lora.targets import target_modules
from autolora.recipe.schema import Weights
from autolora.runs.manifest import peak_memory_mib
from autolora.tables import Row, to_markdown
from autolora.training.batches import Batch
from autolora.training.compute import Compute
from autolora.training.finetune import Finetuning
from autolora.training.gradients import Gradients
from autolora.training.kernels import VARIABLES, bound_kernels
from autolora.training.seeds import seed_torch

UNIFORM, MANY = "uniform", "many"
RANK, TOKENS = 4, 1000
SETTINGS: dict[str, dict[str, str]] = {
    "torch's own": dict.fromkeys(VARIABLES, "1024"),
    "autolora's": {},
    "autolora's, one arena": {"MALLOC_ARENA_MAX": "1"},
    "autolora's, blocks of 64 KiB given back": {"MALLOC_MMAP_THRESHOLD_": "65536"},
}


class RandomBatches:
    """Batches of random tokens, of lengths that the step alone decides.

    Args:
        examples: Of a batch.
        longest: Tokens of the longest sequence there may be.
    """

    def __init__(self, examples: int, longest: int) -> None:
        self.examples, self.longest = examples, longest

    def at(self, step: int) -> Batch:
        """See `autolora.training.batches.Batches`."""
        draw = random.Random(step)
        length = draw.randint(8, self.longest)
        ids = torch.tensor([[draw.randrange(TOKENS) for _ in range(length)] for _ in range(self.examples)])
        labels = torch.tensor([draw.randrange(2) for _ in range(self.examples)])
        mask = torch.ones_like(ids)
        return Batch(({"input_ids": ids, "attention_mask": mask, "labels": labels},), self.examples)


def ranks_of(kind: str, names: Sequence[str]) -> Ranks:
    """`RANK` everywhere, or from 1 to twice of it less one in turn, the same in all.

    Args:
        kind: `UNIFORM` or `MANY`.
        names: Of the layers; a number of them that can be paired.
    """
    sizes = [1 + i // 2 % (2 * RANK - 1) for i in range(len(names))]
    many = [2 * RANK - size if i % 2 else size for i, size in enumerate(sizes)]
    return Ranks(dict(zip(names, many if kind == MANY else [RANK] * len(names), strict=True)), 2 * RANK, 16.0)


def train(kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Steps of a training in this process: what was resident before them, and the peak, in MiB.

    Args:
        kind: `UNIFORM` or `MANY`.
        options: The command's.
    """
    seed_torch(0)
    config = BertConfig(
        vocab_size=TOKENS,
        hidden_size=options.width,
        intermediate_size=4 * options.width,
        num_hidden_layers=options.layers,
        num_attention_heads=options.width // 32,
    )
    model = BertForSequenceClassification(config)
    ranks = ranks_of(kind, list(target_modules(model, ["query", "value"])))
    adapted = add_adapter(model, ranks, lora_config(ranks, dropout=0.1, head=["classifier"])).train()
    compute = Compute(options.precision)
    if compute.bfloat16:
        cast_once(adapted)
    gradients = Gradients(lambda batch: adapted(**batch).loss * len(batch["labels"]), compute)
    batches = RandomBatches(options.batch_size, options.longest)
    stage = Finetuning(adapted, gradients, batches, Weights(), total=options.steps, seed=0)
    before = psutil.Process().memory_info().rss / 2**20
    for step in range(options.steps):
        stage.advance(step)
    return {"before": before, "peak": peak_memory_mib(torch.device("cpu"))["process"], "precision": compute.precision}


def measured(kind: str, environment: Mapping[str, str], arguments: Sequence[str]) -> dict[str, Any]:
    """The same in a process of its own.

    Args:
        kind: `UNIFORM` or `MANY`.
        environment: What is added to this one's.
        arguments: The command's.
    """
    command = [sys.executable, "-m", "benchmarks.rank_memory", "--one", kind, *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(setting: str, uniform: Mapping[str, Any], many: Mapping[str, Any]) -> Row:
    """A line of the table: peaks, and their ratio with and without what was there before."""
    steps = [found["peak"] - found["before"] for found in (many, uniform)]
    return {
        "setting": setting,
        "precision": many["precision"],
        "uniform, MiB": f"{uniform['peak']:.0f}",
        "many, MiB": f"{many['peak']:.0f}",
        "ratio": f"{many['peak'] / uniform['peak']:.2f}",
        "of the steps alone": f"{steps[0] / steps[1]:.2f}",
        "to reach": "1.05",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or what one training takes."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--longest", type=int, default=96, help="tokens of the longest batch")
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--one", choices=[UNIFORM, MANY], help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    if options.one:
        bound_kernels()
        print(json.dumps(train(options.one, options)))
        return
    table = []
    for setting in options.settings:
        both = [measured(kind, SETTINGS[setting], given) for kind in (UNIFORM, MANY)]
        table.append(row(setting, *both))
    print(to_markdown(table), end="")


if __name__ == "__main__":
    main()
