"""Samples a second and model FLOP utilisation on a GPU, and what its hot loop waits for: ``make bench-gpu``.

A RoBERTa of the base model's shape with random weights, LoRA of rank 8 on query and value, random tokens of 16 to 128 a
sequence, in bfloat16, at batches of 16 and 32. Our training, plain and by torch.compile, takes turns with PEFT in
transformers' Trainer, with batches grouped by length and with torch.compile on random ones.

| symbol | meaning |
|---|---|
| P | weights of the blocks' linear layers, per block 4 d² + 2 d f |
| n, N | tokens of a sequence, and of all sequences of a step, padding left out |
| L, d, f | blocks, width, width of the MLP |

Model FLOPs of a step are 2 · 2 P N + 3 · 4 L d Σ n²: a frozen weight is multiplied once forward and once backward, for
the gradient of its input alone; of attention's two products (2 · 2 n² d a block), the backward pass takes both sides.
LoRA itself and the head are left out. Utilisation is by the peak of dense bfloat16 products (`PEAKS`, or --peak).

A profile of ten steps between two records of the log counts what makes the host wait for the device. One wait a step is
transformers' own: it asks whether there is padding.

Without a GPU it says so and ends with 3. ``--cpu`` runs the whole path on a CPU with a tiny shape, whose figures mean
nothing.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from torch import nn
from transformers import RobertaConfig, RobertaForSequenceClassification

from autolora.lora.adapter import add_adapter
from autolora.lora.cast import cast_once
from autolora.lora.config import lora_config
from autolora.lora.ranks import Ranks
from autolora.lora.targets import target_modules
from autolora.recipe.schema import Weights
from autolora.tables import Row, to_markdown
from autolora.training.batches import BatchStream, Example, TensorBatch
from autolora.training.compiled import CompiledPasses
from autolora.training.compute import Compute
from autolora.training.finetune import Finetuning
from autolora.training.gradients import Gradients
from autolora.training.loop import run_steps
from autolora.training.seeds import seed_torch
from benchmarks.throughput import LOG_EVERY, Told, by_trainer
from benchmarks.turns import Training, in_turns, steps_in_all

NONE = 3  # the exit code without a GPU
RANK, LABELS, PAD, PROFILED = 8, 2, 1, 10
BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
PEAKS = {"H100": 989.0, "H200": 989.0, "GH200": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0, "4090": 165.0}
OURS, COMPILED = "autolora", "autolora, torch_compile"
GROUPED, THEIRS_COMPILED = "Trainer, grouped by length", "Trainer, torch.compile"
WAITS = (
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
    "Memcpy DtoH",
    "aten::_local_scalar_dense",
    "aten::nonzero",
)


@dataclass(frozen=True)
class Shape:
    """What is trained: a model's shape, and how long sequences are.

    Args:
        sizes: Of `RobertaConfig`.
        vocabulary: Tokens.
        shortest: Tokens of a sequence.
        longest: Likewise.
    """

    sizes: Mapping[str, int]
    vocabulary: int
    shortest: int
    longest: int

    def model(self) -> PeftModel:
        """The model with stock LoRA, and random weights that are the same every time."""
        seed_torch(0)
        options: dict[str, Any] = {**self.sizes, "num_labels": LABELS, "vocab_size": self.vocabulary}
        config = RobertaConfig(**options, max_position_embeddings=self.longest + 2)
        model = RobertaForSequenceClassification(config)
        ranks = Ranks(dict.fromkeys(target_modules(model, ["query", "value"]), RANK), RANK, 2.0 * RANK)
        return add_adapter(model, ranks, lora_config(ranks, dropout=0.1, head=["classifier"])).train()

    def examples(self, count: int) -> list[dict[str, Any]]:
        """Random sequences."""
        draw = random.Random(0)
        lengths = [draw.randint(self.shortest, self.longest) for _ in range(count)]
        return [
            {"input_ids": [draw.randrange(5, self.vocabulary) for _ in range(n)], "labels": draw.randrange(LABELS)}
            for n in lengths
        ]

    def flops(self, lengths: Iterable[int]) -> float:
        """Model FLOPs of a training step on sequences of these lengths, as the module's text has it."""
        d, f, blocks = (self.sizes[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers"))
        weights = blocks * (4 * d * d + 2 * d * f)
        return sum(4.0 * weights * n + 12.0 * blocks * d * n * n for n in lengths)


def collate(examples: Sequence[Example]) -> TensorBatch:
    """Examples padded to their longest."""
    longest = max(len(each["input_ids"]) for each in examples)
    ids = [[*each["input_ids"], *[PAD] * (longest - len(each["input_ids"]))] for each in examples]
    tokens = torch.tensor(ids)
    labels = torch.tensor([each["labels"] for each in examples])
    return {"input_ids": tokens, "attention_mask": (tokens != PAD).long(), "labels": labels}


def finetuning(shape: Shape, examples: Sequence[Example], batch: int, total: int, *, compiled: bool) -> Finetuning:
    """Our training.

    Args:
        shape: Of the model.
        examples: To train on.
        batch: Examples of a step.
        total: Steps.
        compiled: Whether its passes are compiled.
    """
    compute = Compute("bfloat16")
    model = shape.model().to(compute.device)
    if not compiled:
        cast_once(model)

    def loss(micro: TensorBatch) -> torch.Tensor:
        inputs = {name: tensor for name, tensor in micro.items() if name != "labels"}
        logits = model(**inputs).logits.float()
        return nn.functional.cross_entropy(logits, micro["labels"], reduction="sum")

    passes: Callable[[], Any] | None = CompiledPasses(model) if compiled else None
    gradients = Gradients(loss, compute, around=passes) if passes else Gradients(loss, compute)
    stream = BatchStream(examples, collate, batch_size=batch, seed=0, device=compute.device)
    return Finetuning(model, gradients, stream, Weights(learning_rate=1e-3), total=total, seed=0)


def ours(stage: Finetuning, total: int) -> Training:
    """Its loop."""

    def train(step: Callable[[], None]) -> None:
        run_steps(stage, total=total, log_every=LOG_EVERY, checkpoint_every=total, observer=Told(step))

    return train


def theirs(shape: Shape, examples: Sequence[Example], batch: int, total: int, folder: Path, **options: Any) -> Training:
    """PEFT in Trainer.

    Args:
        shape: Of the model.
        examples: To train on.
        batch: Examples of a step.
        total: Steps.
        folder: For what Trainer writes.
        options: Of `TrainingArguments`.
    """
    from datasets import Dataset

    rows = Dataset.from_list([{**each, "length": len(each["input_ids"])} for each in examples])
    return by_trainer(
        folder,
        total,
        lambda: {"model": shape.model(), "train_dataset": rows, "data_collator": collate},
        per_device_train_batch_size=batch,
        learning_rate=1e-3,
        max_grad_norm=0.0,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        **options,
    )


def waits(stage: Finetuning, begin: int) -> dict[str, int]:
    """How often ten steps wait for the device, by what for.

    Args:
        stage: Our training, on whatever device, with more than ten steps left.
        begin: The first of them.
    """
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        for step in range(begin, begin + PROFILED):
            stage.advance(step)
            stage.watched()
    names = [str(event.name) for event in profiler.events()]
    return {each: sum(name.startswith(each) for name in names) for each in WAITS}


def peak_of(name: str) -> float | None:
    """TFLOP/s of dense bfloat16 products; None of a GPU that `PEAKS` does not have.

    Args:
        name: As torch has it.
    """
    return next((peak for key, peak in PEAKS.items() if key in name), None)


def rows(seconds: Mapping[str, Sequence[float]], samples: int, flops: float, peak: float | None) -> list[Row]:
    """The table: a line for each training.

    Args:
        seconds: Of its blocks.
        samples: Of a block.
        flops: Of a sample, on average.
        peak: TFLOP/s of the device.
    """
    own = statistics.median(seconds[OURS])
    found: list[Row] = []
    for name, blocks in seconds.items():
        middle = statistics.median(blocks)
        rate = samples * flops / middle / 1e12
        found.append(
            {
                "training": name,
                "samples/s": f"{samples / middle:.0f}",
                "model TFLOP/s": f"{rate:.2f}",
                "utilisation": "" if peak is None else f"{rate / peak:.1%}",
                "autolora is so many times as fast": f"{middle / own:.2f}",
            }
        )
    return found


def measure(shape: Shape, batch: int, options: argparse.Namespace, peak: float | None) -> str:
    """The table of a batch size, and what ten steps of ours wait for.

    Args:
        shape: Of the model.
        batch: Examples of a step.
        options: The command's.
        peak: TFLOP/s of the device.
    """
    total = steps_in_all(options.block, options.warmup, options.blocks)
    examples = shape.examples(batch * options.examples)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        trainings = {
            OURS: ours(finetuning(shape, examples, batch, total, compiled=False), total),
            GROUPED: theirs(shape, examples, batch, total, place, train_sampling_strategy="group_by_length"),
        }
        if not options.without_compile:
            trainings[COMPILED] = ours(finetuning(shape, examples, batch, total, compiled=True), total)
            trainings[THEIRS_COMPILED] = theirs(shape, examples, batch, total, place, torch_compile=True)
        settle = torch.cuda.synchronize if torch.cuda.is_available() else (lambda: None)
        seconds = in_turns(trainings, block=options.block, warmup=options.warmup, blocks=options.blocks, settle=settle)
    flops = shape.flops(len(each["input_ids"]) for each in examples) / len(examples)
    stage = finetuning(shape, examples, batch, 3 * PROFILED, compiled=False)
    for step in range(PROFILED):
        stage.advance(step)
    counted = ", ".join(f"{name} {count}" for name, count in waits(stage, PROFILED).items())
    table = to_markdown(rows(seconds, options.block * batch, flops, peak))
    return f"## Batch {batch}\n\n{table}\nIn ten steps of ours: {counted}.\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables.

    Returns:
        The exit code: `NONE` where there is no GPU.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--block", type=int, default=50, help="steps of a turn")
    parser.add_argument("--blocks", type=int, default=4, help="turns that count")
    parser.add_argument("--warmup", type=int, default=1, help="turns before them")
    parser.add_argument("--examples", type=int, default=100, help="batches of examples that there are")
    parser.add_argument("--peak", type=float, help="the GPU's TFLOP/s of dense bfloat16 products")
    parser.add_argument("--without-compile", action="store_true")
    parser.add_argument("--cpu", action="store_true", help="try the path on a CPU, with a tiny shape")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available() and not options.cpu:
        print("no GPU is at hand, nothing was measured; run this on a machine with one: make bench-gpu")
        return NONE
    transformers.logging.set_verbosity_error()
    shape = Shape(TINY, 100, 4, 12) if options.cpu else Shape(BASE, 50265, 16, 128)
    name = "a CPU, whose figures mean nothing" if options.cpu else torch.cuda.get_device_name()
    print(f"RoBERTa, {'tiny' if options.cpu else 'base'} shape, bfloat16, on {name}; torch {torch.__version__}\n")
    for batch in options.batch_sizes:
        print(measure(shape, batch, options, options.peak or peak_of(name)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
