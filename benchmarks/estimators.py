"""Time and memory of a search iteration by estimator, as a ratio to a plain LoRA training step: ``make bench``.

Model: all-MiniLM-L6-v2 with the head of `glue-mini/cola` (classifier and bert.pooler), k = 8 on query and value. The
plain step is stock PEFT LoRA, r = 8, through `autolora.training.finetune.Finetuning`: same model, batch and optimiser.

Data: CoLA below --data-root, below AUTOLORA_TEST_DATA, or beside the checkout; else the package's generated data.

Time: all contenders take turns on the same batch, so that a slow moment of the machine hits all of them; the table has
the median over the steps of the ratio to the plain step of that turn. Where selection variables are stepped at every
n-th step, it is the median over rounds of n turns, of their sum over that of the plain steps. D_val is D_tr here, so
that both batches of an iteration have the plain step's shape; with "half" the validation batch has half of its rows.
bfloat16 is measured where the device computes in it; elsewhere it is emulated, some 25 times slower than float32, and
measured only when asked for: ``--precision float32 bfloat16``.

Memory: the most bytes in tensors at any moment of a step on the longest batch, frozen model and optimiser included. On
a CPU every allocation and release is read from torch's profiler, since the resident size of the process also counts
the interpreter, its libraries and what the allocator keeps; on CUDA it is ``max_memory_allocated``.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from autolora.bilevel.loop import BilevelSearch
from autolora.context.base import Context
from autolora.experiment.preflight import load_recipe
from autolora.lora.adapter import add_adapter
from autolora.lora.config import lora_config
from autolora.lora.ranks import Ranks
from autolora.lora.selection import add_selection
from autolora.lora.targets import target_modules
from autolora.recipe.schema import Search, Weights
from autolora.recipe.shipped import find_recipe
from autolora.recipe.stages import Selection
from autolora.runs.manifest import device_record
from autolora.tables import to_markdown
from autolora.training.batches import BatchStream
from autolora.training.compute import Compute
from autolora.training.finetune import Finetuning
from autolora.training.gradients import Gradients
from autolora.training.optimizers import ScheduledOptimizer

PLAIN = "plain LoRA step"
TIME_TARGETS = {"first_order": 2.1, "forward_difference": 3.2, "central_difference": 4.2}
MEMORY_TARGETS = dict.fromkeys(TIME_TARGETS, 1.2)
ESTIMATORS = (*TIME_TARGETS, "exact")
TO_REACH = 1.5  # of the settings below
DROPOUT = 0.1


@dataclass(frozen=True)
class Sparing:
    """A search that steps its selection variables at every n-th step, on a share of the validation batch."""

    estimator: str
    every: int
    share: float = 1.0

    def __str__(self) -> str:
        return f"{self.estimator}, every {self.every}{', half' if self.share < 1 else ''}"


SPARING = (
    Sparing("forward_difference", 2),
    Sparing("forward_difference", 3, 0.5),
    Sparing("forward_difference", 4),
    Sparing("forward_difference", 4, 0.5),
    Sparing("central_difference", 6),
)


class Trainable(Protocol):
    weights: ScheduledOptimizer

    def advance(self, step: int) -> dict[str, Tensor]: ...


@dataclass
class Contender:
    """One line of the table."""

    name: str
    precision: str
    model: nn.Module
    stage: Trainable
    every: int = 1

    def resident(self) -> int:
        """Bytes of the model and of the optimisers' state."""
        optimizers = [self.stage.weights, getattr(self.stage, "selection", None)]
        states = [value for o in optimizers if o for s in o.optimizer.state.values() for value in s.values()]
        tensors = [*self.model.parameters(), *self.model.buffers(), *states]
        return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def main() -> None:
    options = arguments()
    warnings.filterwarnings("ignore", category=FutureWarning)
    context, data = laboratory(options.data_root, options.batch_size)
    examples = context.examples(context.recipe.data.splits.train)
    stream = context.stream(examples, context.recipe.search, "bench")
    fast = has_bfloat16(context.compute.device)
    precisions = options.precision or (["float32", "bfloat16"] if fast else ["float32"])
    names: tuple[str | Sparing, ...] = (PLAIN, *ESTIMATORS, *SPARING)
    contenders = [contender(context, stream, name, precision) for precision in precisions for name in names]
    device = device_record(context.compute.device, " and ".join(precisions))
    print(
        f"MiniLM, {data}, batch {options.batch_size}, median of {options.steps} steps after {options.warmup}, "
        f"{'processor' if options.cpu_time else 'wall'} time"
    )
    print(f"{device['name']}, {device.get('threads', 'no')} CPU threads, torch {torch.__version__}")
    if not fast:
        print("This device emulates bfloat16: measured only with --precision float32 bfloat16.")
    print(flush=True)
    clock = time.process_time if options.cpu_time else time.perf_counter
    times = measure_times(contenders, context.compute.device, options.steps, options.warmup, clock)
    longest = max(range(options.warmup, options.warmup + options.steps), key=lambda s: stream_size(stream, s))
    # What steps its selection variables seldom takes as much memory as what always does, when it does.
    memory = [peak_memory(c, longest, context.compute.device) if c.every == 1 else None for c in contenders]
    print(to_markdown(table(contenders, times, memory)), end="")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time and memory of a search iteration, by estimator.")
    parser.add_argument("--steps", type=int, default=24, help="measured steps")
    parser.add_argument("--warmup", type=int, default=4, help="steps before them")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--precision", nargs="+", choices=["float32", "bfloat16"])
    parser.add_argument("--cpu-time", action="store_true", help="the processor's seconds: for a machine that is busy")
    parser.add_argument("--data-root", type=Path, help="folder with glue/cola/train.jsonl")
    return parser.parse_args()


def laboratory(data_root: Path | None, batch_size: int) -> tuple[Context, str]:
    """Model and data of the benchmark, and what the data is."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = data_root or Path(os.environ.get("AUTOLORA_TEST_DATA", beside))
    real = (root / "glue" / "cola" / "train.jsonl").is_file()
    if data_root and not real:
        raise SystemExit(f"there is no glue/cola/train.jsonl below {data_root}")
    overrides = [f"search.batch_size={batch_size}"]
    name, data = ("glue-mini/cola", "CoLA") if real else ("quickstart", "generated (synthetic) data")
    recipe = load_recipe(find_recipe(name), overrides, data_root=root if real else None)
    return Context(recipe, Compute("bfloat16"), show=False), data


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16, not only emulates it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def contender(context: Context, stream: BatchStream, name: str | Sparing, precision: str) -> Contender:
    """A fresh model with its stage; `stream` gives the batches of all."""
    model = context.model()
    head = context.head(model)
    targets = context.targets(model)
    # Without a compute the passes run in float32.
    compute = context.compute if precision == "bfloat16" else None
    weights = Weights(learning_rate=1e-3)
    common: dict[str, Any] = {"total": 10_000, "seed": 0}
    stage: Trainable
    if name == PLAIN:
        ranks = Ranks(dict.fromkeys(target_modules(model, targets), 8), initial_rank=8, lora_alpha=16.0)
        adapted = add_adapter(model, ranks, lora_config(ranks, dropout=DROPOUT, head=head)).train()
        gradients = Gradients(partial(context.task.loss, adapted), compute)
        return Contender(name, precision, adapted, Finetuning(adapted, gradients, stream, weights, **common))
    layers = add_selection(model, targets, rank=8, lora_alpha=16.0, dropout=DROPOUT)
    for module in head:
        model.get_submodule(module).requires_grad_(True)
    model.train()
    how = name if isinstance(name, Sparing) else Sparing(name, 1)
    gradients = Gradients(partial(context.task.loss, model), compute, double_backward=how.estimator == "exact")
    settings = Search(estimator=how.estimator, weights=weights, selection=Selection(every=how.every))
    smaller = round(how.share * stream.batch_size)
    validation = context.stream(stream.examples, context.recipe.search, "bench", smaller) if how.share < 1 else stream
    stage = BilevelSearch(model, layers, gradients, stream, validation, settings, **common)
    return Contender(str(name), precision, model, stage, how.every)


def measure_times(
    contenders: Sequence[Contender], device: torch.device, steps: int, warmup: int, clock: Callable[[], float]
) -> list[list[float]]:
    """Seconds of every measured step of every contender, in turns."""
    times: list[list[float]] = [[] for _ in contenders]
    for step in range(warmup + steps):
        for position in range(len(contenders)):
            i = (position + step) % len(contenders)  # nobody always goes first
            synchronize(device)
            begun = clock()
            contenders[i].stage.advance(step)
            synchronize(device)
            if step >= warmup:
                times[i].append(clock() - begun)
    return times


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def stream_size(stream: BatchStream, step: int) -> int:
    """Token ids in a step's batch, padding included."""
    return sum(micro["input_ids"].numel() for micro in stream.at(step).micro)


def peak_memory(contender: Contender, step: int, device: torch.device) -> int:
    """Bytes: what stays, and the most that a step adds to it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        contender.stage.advance(step)
        return contender.resident() + torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        contender.stage.advance(step)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    now = peak = 0
    for event in sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: float(e["ts"])):
        now += event["args"]["Bytes"]
        peak = max(peak, now)
    return contender.resident() + peak


def table(
    contenders: Sequence[Contender], times: Sequence[Sequence[float]], memory: Sequence[int | None]
) -> list[dict[str, str | int | float | None]]:
    plain = {c.precision: i for i, c in enumerate(contenders) if c.name == PLAIN}
    first = next(iter(plain.values()))
    rows: list[dict[str, str | int | float | None]] = []
    for i, c in enumerate(contenders):
        base, used = plain[c.precision], memory[i]
        target = TIME_TARGETS.get(c.name, TO_REACH if c.every > 1 else None)
        least, now = memory[base] or 1, times[i]
        rows.append(
            {
                "precision": c.precision,
                "step": c.name,
                "ms": f"{1000 * typical(now, c.every):.0f}",
                "time": f"{ratio(now, times[base], c.every):.2f}",
                "to reach": "" if target is None else f"{target}",
                "MiB": "" if used is None else f"{used / 2**20:.0f}",
                "memory": "" if used is None else f"{used / least:.2f}",
                "to reach ": f"{MEMORY_TARGETS[c.name]}" if c.name in MEMORY_TARGETS else "",
                f"time against {contenders[first].precision}": f"{ratio(now, times[first + i - base], c.every):.2f}",
            }
        )
    return rows


def rounds(times: Sequence[float], every: int) -> list[float]:
    """Mean seconds of a step in each whole round of so many; those at the beginning that fill none are left out."""
    rest = len(times) % every
    return [statistics.fmean(times[i : i + every]) for i in range(rest, len(times), every)]


def typical(times: Sequence[float], every: int) -> float:
    """Median of the rounds' means."""
    return statistics.median(rounds(times, every))


def ratio(times: Sequence[float], others: Sequence[float], every: int = 1) -> float:
    """Median of the ratios within each turn, or within each round of turns."""
    return statistics.median(a / b for a, b in zip(rounds(times, every), rounds(others, every), strict=True))


if __name__ == "__main__":
    main()
