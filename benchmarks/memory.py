"""Memory of stages, computed beside measured: ``make bench-memory``; ``--shapes`` computes it for well-known models.

``--shapes --cards 2 4 8``: on several cards, the base shared out where it is bfloat16, whole on each where it is nf4.

Measured: one optimiser step of the retraining and one iteration of the search (central difference) on a random Llama,
each in a process of its own: the most bytes that tensors held beside the base (on a GPU torch's own figure), and how
far the process' resident size rose. Computed: `autolora.experiment.memory` from the configuration alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
import transformers

from autolora.bilevel.estimators import central_difference
from autolora.bilevel.inner import AdamStep
from autolora.bilevel.loop import BatchProblem
from autolora.experiment.memory import Passes, estimate, needed
from autolora.experiment.memory_settings import MemorySettings, Storage
from autolora.lora.selection import add_selection
from autolora.recipe.schema import Selection, Weights
from autolora.tables import Cell, Row, to_markdown
from autolora.tasks.token_loss import Pass, token_loss
from autolora.training.batches import Batch
from autolora.training.gradients import Gradients
from autolora.training.live import LiveBytes
from autolora.training.optimizers import ScheduledOptimizer
from autolora.training.recompute import recompute_layers

MIB, GIB = 2**20, 2**30
CAUSAL = "AutoModelForCausalLM"
TARGETS = ("q_proj", "v_proj")
LLAMA = {  # vocabulary, width, MLP, blocks, heads, key-value heads, tied
    "SmolLM2-135M": (49152, 576, 1536, 30, 9, 3, True),
    "Llama-3.2-1B": (128256, 2048, 8192, 16, 32, 8, True),
    "Llama-3.2-3B": (128256, 3072, 8192, 28, 24, 8, True),
    "Llama-3.1-8B": (128256, 4096, 14336, 32, 32, 8, False),
    "Llama-3.1-70B": (128256, 8192, 28672, 80, 64, 8, False),
}
MEASURED = {"7M": (4000, 256, 704, 6, 8, 4, False), "30M": (16000, 384, 1024, 10, 6, 3, False)}


def config_of(shape: tuple[int, int, int, int, int, int, bool]) -> transformers.LlamaConfig:
    """A Llama of this shape.

    Args:
        shape: As in `LLAMA`.
    """
    vocabulary, width, inner, blocks, heads, keys, tied = shape
    return transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        num_key_value_heads=keys,
        tie_word_embeddings=tied,
    )


def settings_of(stage: str, tokens: int, checkpointing: bool) -> MemorySettings:
    """What is measured: two examples at a time.

    Args:
        stage: "search" or "retrain".
        tokens: Of an example.
        checkpointing: Whether blocks are run again in the backward pass.
    """
    return MemorySettings(
        TARGETS,
        tokens=tokens,
        search_examples=2,
        retrain_examples=2,
        dropout=0.1,
        gradient_checkpointing=checkpointing,
        estimator="central_difference" if stage == "search" else "none",
    )


def measure(name: str, stage: str, tokens: int, checkpointing: bool) -> dict[str, int]:
    """Two steps, the second with the optimiser's states: bytes of living tensors beside the base, and of the process.

    Args:
        name: Of a model of `MEASURED`.
        stage: "search" or "retrain".
        tokens: Of an example.
        checkpointing: Whether blocks are run again in the backward pass.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = getattr(transformers, CAUSAL).from_config(config_of(MEASURED[name])).to(device)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    constraint = "softmax" if stage == "search" else "none"
    layers = add_selection(model, TARGETS, rank=8, dropout=0.1, constraint=constraint)
    model.to(device).train()
    if checkpointing:
        recompute_layers(model)
    with LiveBytes(model) as live:
        _steps(model, layers, stage, torch.randint(3, 4000, (2, tokens), device=device))
    own = sum(p.numel() * 4 for layer in layers.values() for p in layer.trained())
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else live.peak + own
    unit = 1 if sys.platform == "darwin" else 1024
    return {"live": peak, "resident": unit * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)}


def _steps(model: Any, layers: Any, stage: str, ids: torch.Tensor) -> None:
    weights = {f"{n}.{x}": getattr(each, x) for n, each in layers.items() for x in ("lora_A", "lora_B")}
    selection = {n: each.selection_logits for n, each in layers.items()}
    optimizer = ScheduledOptimizer(weights, Weights(), 10)
    other = ScheduledOptimizer(selection, Selection(), 10, decoupled=False)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    gradients = Gradients(lambda batch: token_loss(model, Pass(inputs, slice(0, None)), ids))
    batch = Batch(({"input_ids": ids},), ids.numel())
    for step in range(2):
        if stage == "retrain":
            optimizer.apply(gradients.of(batch, list(weights.values()), step)[1], step)
            continue
        problem = BatchProblem(gradients, batch, batch, list(weights.values()), list(selection.values()), step, None)
        found = central_difference.estimate(problem, AdamStep(1e-4, optimizer.moments, step + 1))
        other.apply(found.selection, step)
        optimizer.apply(found.weights, step)


def compared(name: str, stage: str, tokens: int, checkpointing: bool) -> Row:
    """A row of the table of measured figures.

    Args:
        name: Of a model of `MEASURED`.
        stage: "search" or "retrain".
        tokens: Of an example.
        checkpointing: Whether blocks are run again in the backward pass.
    """
    asked = json.dumps([name, stage, tokens, checkpointing])
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.memory", "--measure", asked]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    computed = estimate(config_of(MEASURED[name]), CAUSAL, settings_of(stage, tokens, checkpointing))[stage]
    base = 0 if not torch.cuda.is_available() else computed.parts["base weights"]
    size = computed.total - computed.parts["base weights"] + base
    return {
        "model": name,
        "stage": stage,
        "tokens": f"2 x {tokens}",
        "checkpointing": "yes" if checkpointing else "no",
        "computed, MiB": f"{size / MIB:.1f}",
        "measured, MiB": f"{found['live'] / MIB:.1f}",
        "ratio": f"{size / found['live']:.2f}",
        "rise of the process, MiB": f"{found['resident'] / MIB:.0f}",
    }


def shapes(names: list[str], tokens: int, examples: int) -> Iterator[Row]:
    """Rows of the table of well-known models: GiB of a card that each stage needs.

    Args:
        names: Of `LLAMA`.
        tokens: Of an example.
        examples: Of a micro-batch.
    """
    options: list[tuple[str, Storage, bool]] = [
        ("float32", "float32", False),
        ("bfloat16", "bfloat16", False),
        ("bfloat16, checkpointing", "bfloat16", True),
        ("nf4, checkpointing", "nf4", True),
    ]
    for name in names:
        config = config_of(LLAMA[name])
        passes = Passes(config, CAUSAL)
        common = MemorySettings(
            TARGETS, tokens=tokens, search_examples=examples, retrain_examples=examples, dropout=0.1
        )
        for label, base, checkpointing in options:
            given = replace(common, base=base, precision="bfloat16", gradient_checkpointing=checkpointing)
            found = estimate(config, CAUSAL, given, passes)
            sizes: dict[str, Cell] = {stage: f"{needed(each) / GIB:.1f}" for stage, each in found.items()}
            largest = max(needed(each) for each in found.values())
            fits = next((f"{card} GB" for card in (24, 48, 80) if largest <= card * GIB), "none of them")
            yield {"model": name, "base": label, **sizes, "fits": fits}


def on_cards(names: list[str], tokens: int, examples: int, cards: list[int]) -> Iterator[Row]:
    """Rows of the table of several cards: GiB of each of them that the largest stage needs, with checkpointing.

    Args:
        names: Of `LLAMA`.
        tokens: Of an example.
        examples: Of a micro-batch on a card.
        cards: How many.
    """
    bases: tuple[Storage, ...] = ("bfloat16", "nf4")
    for name in names:
        config = config_of(LLAMA[name])
        passes = Passes(config, CAUSAL)
        for base in bases:
            given = MemorySettings(
                TARGETS, tokens=tokens, search_examples=examples, retrain_examples=examples, dropout=0.1
            )
            given = replace(given, base=base, precision="bfloat16", gradient_checkpointing=True)
            for count in cards:
                settings = replace(given, cards=count)
                found = estimate(config, CAUSAL, settings, passes)
                largest = max(needed(each) for each in found.values())
                fits = {f"{card} GB": "fits" if largest <= card * GIB else "no" for card in (24, 48, 80)}
                how = "a share" if settings.shared else "whole"
                size = f"{largest / GIB:.1f}"
                yield {"model": name, "base": base, "cards": count, "each has": how, "needs, GiB": size, **fits}


def shown(rows: Iterable[Row]) -> list[Row]:
    """All of them, each on standard error as soon as it is there.

    Args:
        rows: Of a table.
    """
    found = []
    for row in rows:
        print(json.dumps(row), file=sys.stderr, flush=True)
        found.append(row)
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--shapes", nargs="*", metavar="NAME", help="compute these models instead; all without a name")
    parser.add_argument("--cards", nargs="+", type=int, metavar="N", help="with --shapes: on so many cards")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--examples", type=int, default=4)
    parser.add_argument("--models", nargs="*", default=list(MEASURED), choices=list(MEASURED))
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(*json.loads(given.measure))))
    elif given.shapes is not None and given.cards:
        print(to_markdown(list(on_cards(given.shapes or list(LLAMA), given.tokens, given.examples, given.cards))))
    elif given.shapes is not None:
        print(to_markdown(list(shapes(given.shapes or list(LLAMA), given.tokens, given.examples))))
    else:
        cases = [(m, s, 128, c) for m in given.models for s in ("retrain", "search") for c in (False, True)]
        print(to_markdown([compared(*case) for case in cases]))


if __name__ == "__main__":
    main()
