"""What a recipe's steps, evaluations and models take on this machine: ``run_probe(recipes, jobs)``.

A probe is a process of its own, which loads data and model as a trial does and takes a few plain LoRA steps and, where
some method takes any, search steps; batches of all lengths are among them. Then it looks at a few batches of the
evaluation splits and of the rows by which weights are chosen. Where several trials run at a time, as many probes do,
each with the threads of a trial: they share the memory's bandwidth as the trials will.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError
from typing import Any

import torch
from peft import PeftModel

from autolora.comparison.child import end_with_parent
from autolora.comparison.devices import share_of_cores
from autolora.comparison.probe_rows import seconds_of_loss, seconds_of_rows
from autolora.comparison.probe_steps import finetuning, seconds_of_measuring, seconds_of_step, spread
from autolora.comparison.processes import process_context, start
from autolora.console import hush
from autolora.context.base import Context
from autolora.errors import UnreachableError, UserError
from autolora.experiment.keeping import SPLIT, held_out
from autolora.experiment.prepare import prepare
from autolora.methods.base import method_class
from autolora.methods.bilevel import bilevel_search
from autolora.recipe.schema import MethodSettings, Recipe
from autolora.recipe.stages import LOSS

LOADED = 600.0  # seconds that probes wait for each other before they time anything


@dataclass(frozen=True)
class Probe:
    """What a probe measured; seconds, where nothing else is said.

    Args:
        examples: Of the training split.
        plain: Of a plain step.
        search: Of a search step; 0 where no method takes any.
        loading: Of loading data and model.
        adapter_bytes: Of the trained parameters of a LoRA of rank k with the head, in float32.
        model_bytes: Of the whole model, in float32.
        model: Of loading the model again.
        measuring: Of the passes that measure Fisher information on a batch; 0 where no method takes any.
        losing: Of the mean loss of an example; 0 where no method measures its rises.
        evaluation: Of all evaluation splits.
        rows: How many these have.
        inputs: How many rows the training split would have as an evaluation split.
        looking: Of one evaluation of the rows by which weights are chosen; 0 where they aren't.
    """

    examples: int
    plain: float
    search: float
    loading: float
    adapter_bytes: int
    model_bytes: int
    model: float = 0.0
    measuring: float = 0.0
    losing: float = 0.0
    evaluation: float = 0.0
    rows: int = 1
    inputs: int = 1
    looking: float = 0.0


def run_probe(recipes: Sequence[Recipe], jobs: int = 1, threads: int | None = None) -> Probe | UserError | str:
    """The probe of a recipe, or why there is none: what the user has to mend, or anything else.

    Args:
        recipes: One, with the methods that are timed for.
        jobs: How many probes run beside each other.
        threads: Of each of them; None for an equal share of the machine's.
    """
    context = process_context()
    barrier = context.Barrier(jobs) if jobs > 1 else None
    threads = threads or share_of_cores(jobs)
    processes, waiting = list[BaseProcess](), list[Connection]()
    for _ in range(jobs):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_probe_into, args=(sender, recipes, threads, barrier))
        start(process)
        sender.close()
        processes.append(process)
        waiting.append(receiver)
    found = list[Probe | UserError | str]()
    while waiting:
        ready = wait(waiting)
        for receiver in [each for each in waiting if each in ready]:
            waiting.remove(receiver)
            try:
                found.append(receiver.recv())
            except EOFError:
                found.append("the probe ended without a word; was memory short?")
                if barrier is not None:
                    barrier.abort()  # the others wait for it
    for each in processes:
        each.join()
    return _together(found)


def _together(found: Sequence[Probe | UserError | str]) -> Probe | UserError | str:
    """The mean of probes that ran beside each other, or why there is none: the first reason that is one."""
    probes = [each for each in found if isinstance(each, Probe)]
    if len(probes) < len(found):
        return next((each for each in found if each and not isinstance(each, Probe)), "the probe was not made")
    return Probe(**{each.name: _mean([getattr(one, each.name) for one in probes]) for each in fields(Probe)})


def _mean(values: Sequence[float]) -> Any:
    return values[0] if isinstance(values[0], int) else statistics.mean(values)


def _probe_into(sender: Connection, recipes: Sequence[Recipe], threads: int | None, barrier: Barrier | None) -> None:
    """Target of the probe's process. What it says of a probe that failed beside it is nothing."""
    end_with_parent()
    hush()
    found: Probe | UserError | str
    try:
        found = probe(recipes, threads, (lambda: barrier.wait(LOADED)) if barrier else (lambda: None))
    except BrokenBarrierError:
        found = ""
    except UnreachableError as error:
        found = str(error)
    except UserError as error:
        found = UserError(str(error))  # a kind that every process can read
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    if barrier is not None and not isinstance(found, Probe):
        with suppress(OSError):
            barrier.abort()
    sender.send(found)


def probe(recipes: Sequence[Recipe], threads: int | None = None, loaded: Callable[[], object] = lambda: None) -> Probe:
    """Time a few steps and a few batches of rows.

    Args:
        recipes: See `run_probe`.
        threads: How many torch may use; None for all.
        loaded: Called when everything is there, before anything else is timed.

    Raises:
        UserError: Data or model cannot be had, or cannot be used.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    begun = time.monotonic()
    recipe = recipes[0].model_copy(update={"method": _stand_in(recipes[0])})
    context = Context(recipe, show=False, trust_remote_code=True, announce=False)  # as `compare` has been told
    prepare(context)
    examples = context.examples(recipe.data.splits.train)
    model = context.model()
    head, loading = context.head(model), time.monotonic() - begun
    model_bytes = sum(parameter.numel() * 4 for parameter in model.parameters())
    begun, other, searching = time.monotonic(), context.model(), None
    again = time.monotonic() - begun
    if any(_work(each, examples)[0] for each in recipes):
        searching, _ = bilevel_search(context, other, head, recipe.search)
    del other
    adapted, plain = finetuning(context, model, head)
    trained = sum(parameter.numel() * 4 for parameter in adapted.parameters() if parameter.requires_grad)
    loaded()
    step = seconds_of_step(plain, context)
    searched = 0.0 if searching is None else seconds_of_step(searching, context)
    searching = None
    middle = sorted(examples, key=lambda example: len(example["input_ids"]))
    batch = [middle[i] for i in spread(len(middle), recipe.retrain.batch_size)]
    measures = any(method_class(each.method.name).measured_examples(each, len(examples)) for each in recipes)
    rises = any(method_class(each.method.name).measured_losses(each) for each in recipes)
    return Probe(
        len(examples),
        step,
        searched,
        loading,
        trained,
        model_bytes,
        model=again,
        measuring=seconds_of_measuring(context, adapted, batch) if measures else 0.0,
        losing=seconds_of_loss(context, adapted, context.task, batch) / len(batch) if rises else 0.0,
        evaluation=sum(_evaluating(context, adapted)),
        rows=sum(len(context.examples(split)) for split in recipe.data.splits.eval),
        inputs=_inputs(context),
        looking=_looking(context, adapted),
    )


def _stand_in(recipe: Recipe) -> MethodSettings:
    """A LoRA of rank k, on the layers of the recipe's method."""
    return MethodSettings(name="lora", size=recipe.search.rank, targets=recipe.method.targets)


def _work(recipe: Recipe, examples: Sequence[object]) -> tuple[int, int]:
    return method_class(recipe.method.name).workload(recipe, len(examples))


def _evaluating(context: Context, adapted: PeftModel) -> Iterator[float]:
    """Seconds of each evaluation split."""
    for split in context.recipe.data.splits.eval:
        labelled = bool(context.splits.reports[split].labelled)
        wanted = labelled and (context.task.decodes or context.task.tokens_scored)
        references = context.teacher_forced(split) if wanted else None
        yield seconds_of_rows(context, adapted, context.task, context.examples(split), references, labelled=labelled)


def _looking(context: Context, adapted: PeftModel) -> float:
    """Seconds of one evaluation of the rows by which weights are chosen."""
    held = held_out(context)
    if held is None:
        return 0.0
    if held.by == LOSS:
        return seconds_of_loss(context, adapted, held.task, held.examples)
    references = held.forced
    if references is None and held.task.decodes:
        references = held.task.teacher_forced(context.kept_out, context.tokenizer, SPLIT)
    return seconds_of_rows(context, adapted, held.task, held.examples, references)


def _inputs(context: Context) -> int:
    """How many rows the training split would have as an evaluation split."""
    data = context.recipe.data
    rows = context.splits[data.splits.train]
    groups = context.family.groups(rows, data)
    return len(rows) if groups is None else len(set(groups))
