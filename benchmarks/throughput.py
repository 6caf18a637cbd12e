"""Samples a second of a training, beside PEFT with transformers' Trainer: ``make bench-throughput``.

Ours is what `autolora retrain` does with the method lora:8: its batches, its passes, its loop with log and progress.
Theirs is stock PEFT on the same pretrained model in transformers' Trainer, with the same layers, rank, head and
dropout: with batches grouped by length, with random ones (both at our precision, rate, schedule and without clipping),
and with all its defaults, which are float32 and random batches. Beside them the frozen model alone: our batches go
forward and back through it, and there is no LoRA. No training of LoRA on these batches with these passes is quicker.
Data is encoded beforehand on both sides, and padded to the longest of a batch. Nobody writes checkpoints; all log every
ten steps.

Data: CoLA below --data-root, below AUTOLORA_TEST_DATA, or beside the checkout; else the package's generated data.

All trainings take turns in one process, a block of steps each. Trainer's groups run from long to short over 50 batches,
so a block says little by itself: five blocks of ten steps, or a multiple of them, cover whole groups. What is compared
is the median over the blocks, and the whole.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.state import AcceleratorState
from peft import LoraConfig, get_peft_model

from autolora.context.base import Context
from autolora.experiment.retrain import finetuning
from autolora.methods.base import method_of
from autolora.model.opening import source
from autolora.recipe.method import parse_method
from autolora.runs.manifest import device_record
from autolora.runs.store import Run
from autolora.tables import Row, to_markdown
from autolora.training.compute import Compute, precision
from autolora.training.finetune import Training
from autolora.training.log import MetricLog
from autolora.training.loop import run_steps
from autolora.training.seeds import derive, seed_torch
from benchmarks import turns
from benchmarks.estimators import laboratory
from benchmarks.turns import in_turns, steps_in_all

RANK, ALPHA, DROPOUT, RATE, LOG_EVERY = 8, 16, 0.1, 1e-3, 10
OURS, GROUPED, RANDOM, DEFAULT = "autolora", "Trainer, grouped by length", "Trainer, random", "Trainer, its defaults"
ALONE = "the frozen model, no LoRA"
TARGETS = {GROUPED: 1.4, DEFAULT: 2.0}


class Told:
    """An observer of `run_steps` that passes on that a step is done."""

    def __init__(self, step: Callable[[], None]) -> None:
        self.passed_on = step

    def start(self, done: int, total: int) -> None: ...

    def step(self, done: int) -> None:
        self.passed_on()

    def losses(self, done: int, losses: Mapping[str, float]) -> None: ...


class TellStep(transformers.TrainerCallback):
    """The same for Trainer."""

    def __init__(self, step: Callable[[], None]) -> None:
        self.passed_on = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.passed_on()


def ours(context: Context, folder: Path, total: int, *, adapted: bool = True) -> turns.Training:
    """The retraining of a run by `lora:RANK`, all but its beginning and its end.

    Args:
        context: Of the recipe.
        folder: For the run.
        total: Steps.
        adapted: With LoRA; else the model is `frozen`.
    """
    run = Run.create(folder, context.recipe)
    method, settings = method_of(run), run.recipe.retrain
    method.search(context)  # which only says that all ranks are the same
    examples = context.examples(run.recipe.data.splits.train)
    model = context.model()
    head = context.head(model)
    seed_torch(derive(run.recipe.seed, "adapter"))
    training = method.adapt(model, head, context, total) if adapted else Training(frozen(model, head))
    training.model.train()
    trainable = finetuning(context, method, training, examples, total)

    def train(step: Callable[[], None]) -> None:
        log = MetricLog(run.path / "log.jsonl")
        run_steps(
            trainable,
            total=total,
            log_every=settings.log_every,
            checkpoint_every=total,
            log=log,
            observer=Told(step),
        )

    return train


def frozen(model: Any, head: Collection[str]) -> Any:
    """The model with nothing to be trained but its head, and a vector that is added to what its embeddings give.

    The vector's gradient goes back through every layer.

    Args:
        model: Of transformers.
        head: Names of the head's modules.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(name.startswith(f"{part}.") for part in head))
    embeddings = model.get_input_embeddings()
    embeddings.shift = torch.nn.Parameter(torch.zeros(embeddings.weight.shape[1]))
    embeddings.register_forward_hook(lambda module, given, output: output + module.shift)
    return model


def theirs(context: Context, folder: Path, total: int, **options: Any) -> turns.Training:
    """Trainer of transformers on a stock PEFT model of the same shape.

    Args:
        context: Of the recipe: names the model, its head and targets, has the data.
        folder: For whatever Trainer writes.
        total: Steps.
        options: Of `TrainingArguments`.
    """
    recipe = context.recipe
    model = getattr(transformers, context.task.auto_class).from_pretrained(
        source(recipe.model.name), **context.task.head_config()
    )
    config = LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        lora_dropout=DROPOUT,
        target_modules=context.targets(model),
        modules_to_save=[name.rpartition(".")[2] for name in context.head(model)],
        task_type=context.task.peft_task_type,
    )
    return by_trainer(
        folder,
        total,
        lambda: {
            "model": get_peft_model(model, config),
            "train_dataset": encoded(context),
            "data_collator": transformers.DataCollatorWithPadding(context.tokenizer),
            "processing_class": context.tokenizer,
        },
        per_device_train_batch_size=recipe.retrain.batch_size,
        use_cpu=context.compute.device.type == "cpu",
        **options,
    )


def by_trainer(folder: Path, total: int, made: Callable[[], Mapping[str, Any]], **options: Any) -> turns.Training:
    """A training by transformers' Trainer, which writes and shows nothing.

    Args:
        folder: For whatever Trainer writes.
        total: Steps.
        made: Gives what Trainer is given beside its arguments, when its turn has come.
        options: Of `TrainingArguments`.
    """
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=total,
        logging_steps=LOG_EVERY,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **options,
    )

    def train(step: Callable[[], None]) -> None:
        # Trainers of a process share one state, which refuses a second precision; each gets its own
        AcceleratorState._shared_state = {}
        trainer = transformers.Trainer(args=arguments, callbacks=[TellStep(step)], **made())
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()

    return train


def encoded(context: Context) -> Any:
    """The training split with token ids, as `datasets.map` leaves it to a Trainer."""
    from datasets import Dataset

    examples = context.examples(context.recipe.data.splits.train)
    names = [name for name in examples[0] if name != "label"]
    columns = {name: [list(each[name]) for each in examples] for name in names}
    return Dataset.from_dict({**columns, "labels": [each["label"] for each in examples]})


def contenders(context: Context, folder: Path, total: int) -> dict[str, turns.Training]:
    """All trainings by name, ours first."""
    same = {
        "learning_rate": RATE,
        "warmup_steps": round(0.06 * total),
        "max_grad_norm": 0.0,
        "bf16": context.compute.bfloat16,
    }
    made = partial(theirs, context, folder, total)
    found = {
        OURS: ours(context, folder / "runs", total),
        GROUPED: made(train_sampling_strategy="group_by_length", **same),
        RANDOM: made(train_sampling_strategy="random", **same),
        ALONE: ours(context, folder / "alone", total, adapted=False),
    }
    default = made() if context.compute.bfloat16 else None  # in float32 it is the random one
    return found if default is None else {**found, DEFAULT: default}


def rows(seconds: Mapping[str, Sequence[float]], samples: int) -> list[Row]:
    """The table: a line for each training.

    Args:
        seconds: Of its blocks.
        samples: Of a block.
    """
    own, whole = statistics.median(seconds[OURS]), sum(seconds[OURS])
    return [
        {
            "training": name,
            "samples/s": f"{samples / statistics.median(found):.1f}",
            "ours is so many times as fast": f"{statistics.median(found) / own:.2f}",
            "over all blocks": f"{sum(found) / whole:.2f}",
            "to reach": str(TARGETS.get(name, "")),
        }
        for name, found in seconds.items()
    ]


def prepared(data_root: Path | None, batch_size: int, dtype: str) -> tuple[Context, str]:
    """The context of the benchmark's recipe, and what the data is."""
    context, data = laboratory(data_root, batch_size)
    changed = context.recipe.model_copy(
        update={
            "method": parse_method(f"lora:{RANK}"),
            "search": context.recipe.search.model_copy(update={"lora_dropout": DROPOUT, "lora_alpha": float(ALPHA)}),
            "retrain": context.recipe.retrain.model_copy(update={"batch_size": batch_size, "log_every": LOG_EVERY}),
        }
    )
    return Context(changed, Compute(dtype), show=False), data


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--block", type=int, default=10, help="steps of a turn")
    parser.add_argument("--blocks", type=int, default=10, help="turns that count")
    parser.add_argument("--warmup", type=int, default=1, help="turns before them")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--data-root", type=Path, help="folder with glue/cola/train.jsonl")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    context, data = prepared(options.data_root, options.batch_size, options.precision)
    device = context.compute.device
    own = precision(options.precision, device)
    named = device_record(device, own)
    print(
        f"MiniLM, {data}, batch {options.batch_size}, LoRA of rank {RANK}, {own}, {options.blocks} blocks of", end=" "
    )
    print(f"{options.block} steps in turns\n{named['name']}, {named.get('threads', 'no')} CPU threads,", end=" ")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        total = steps_in_all(options.block, options.warmup, options.blocks)
        trainings = contenders(context, Path(folder), total)
        seconds = in_turns(trainings, block=options.block, warmup=options.warmup, blocks=options.blocks)
    print(to_markdown(rows(seconds, options.block * options.batch_size)), end="")


if __name__ == "__main__":
    main()
