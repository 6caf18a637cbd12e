"""What a comparison will take: ``estimates(trials)`` times a few training steps of every recipe on this machine.

A probe is a process of its own that loads data and model and takes three plain LoRA steps and, where some method
takes any, three search steps, of which the first is not counted. Methods say how many steps of either kind they take
(`Method.workload`); a search that several trials share counts once. Decoding, evaluation and the probes themselves
come on top.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from autolora.comparison.child import end_with_parent
from autolora.comparison.plan import Trial
from autolora.comparison.precision import settle, settled
from autolora.comparison.processes import process_context
from autolora.console import hush
from autolora.data.files import is_local
from autolora.errors import UnreachableError, UserError
from autolora.methods.base import method_class
from autolora.recipe.schema import MethodSettings, Recipe
from autolora.tables import Row

if TYPE_CHECKING:
    from autolora.context.base import Context
    from autolora.training.compute import Precision
    from autolora.training.loop import Trainable

STEPS = 3  # of a probe; the first warms up
LEFT_BY_SEARCH = 5  # times the adapter: that of the search, its evidence, the head with its optimiser, the result
OF_A_STEP = {  # fields that a step's time depends on
    "data": ("hub", "path", "config", "columns", "max_length", "packing", "generated"),
    "search": ("rank", "batch_size", "validation_batch_size", "gradient_accumulation", "estimator", "inner_step"),
    "retrain": ("batch_size", "gradient_accumulation"),
}
BESIDE = 2**20  # bytes of logs, tables, predictions and figures of a run, roughly


@dataclass(frozen=True)
class Probe:
    """What a probe measured.

    Args:
        examples: Of the training split.
        plain: Seconds of a plain step.
        search: Seconds of a search step; 0 where no method takes any.
        loading: Seconds of loading data and model.
        adapter_bytes: Of the trained parameters of a LoRA of rank k with the head, in float32.
        model_bytes: Of the whole model, in float32.
    """

    examples: int
    plain: float
    search: float
    loading: float
    adapter_bytes: int
    model_bytes: int


@dataclass(frozen=True)
class Estimate:
    """Of the trials of one recipe.

    Args:
        recipe: Its name.
        trials: How many there are.
        done: How many of them are done already.
        search_steps: Of those that are left; None, as all that follows, where it could not be measured.
        retrain_steps: Plain training steps of those.
        seconds: What they will take.
        size: Bytes that they will write.
        problem: Why it could not be measured.
        faulty: Whether that is for the user to mend before anything is run.
    """

    recipe: str
    trials: int
    done: int
    search_steps: int | None
    retrain_steps: int | None
    seconds: float | None
    size: int | None
    problem: str = ""
    faulty: bool = False

    def row(self) -> Row:
        """The row of the table, in hours and MiB."""
        return {
            "recipe": self.recipe,
            "trials": self.trials,
            "done": self.done,
            "search steps": self.search_steps,
            "training steps": self.retrain_steps,
            "hours": None if self.seconds is None else f"{self.seconds / 3600:.2f}",
            "disk MiB": None if self.size is None else round(self.size / 2**20),
        }


def estimates(trials: Sequence[Trial]) -> list[Estimate]:
    """One for each recipe, in order. What is wrong with data or model is said, not raised.

    Args:
        trials: From `autolora.comparison.plan.plan`.
    """
    found: list[Estimate] = []
    precisions = settle(trials)
    unreachable: dict[str | None, str] = {}  # data sets of the hub, by name, with the recipe that found out
    for name in dict.fromkeys(trial.recipe.name for trial in trials):
        mine = [trial for trial in trials if trial.recipe.name == name]
        todo = [trial for trial in mine if not trial.done]
        counts = (name, len(mine), len(mine) - len(todo))
        if not todo:
            found.append(Estimate(*counts, 0, 0, 0.0, 0))
            continue
        data = todo[0].recipe.data
        if not is_local(data) and data.hub in unreachable:
            found.append(Estimate(*counts, None, None, None, None, f"as {unreachable[data.hub]}"))
            continue
        mine_found = [_estimate(counts, each, precisions) for each in _by_pace(todo)]
        if not is_local(data) and data.hub is not None and any(each.problem and not each.faulty for each in mine_found):
            unreachable[data.hub] = name
        found.append(_together(mine_found))
    return found


def _estimate(counts: tuple[str, int, int], todo: Sequence[Trial], precisions: Mapping[str, Precision]) -> Estimate:
    ordered = sorted(todo, key=lambda trial: trial.tuning)  # of reported trials all splits are read
    result = run_probe([_at(trial.recipe, settled(trial.recipe, precisions)) for trial in ordered])
    if isinstance(result, Probe):
        return _of(counts, todo, result)
    return Estimate(*counts, None, None, None, None, str(result), faulty=isinstance(result, UserError))


def _by_pace(todo: Sequence[Trial]) -> list[list[Trial]]:
    """The trials of one recipe by what a step of theirs takes, which the settings of a sweep may change."""
    found: dict[str, list[Trial]] = {}
    for trial in todo:
        recipe = trial.recipe
        values = {
            name: getattr(recipe, name).model_dump(mode="json") for name in ("model", "data", "search", "retrain")
        }
        values["data"] = {name: values["data"].get(name) for name in OF_A_STEP["data"]}
        for stage in ("search", "retrain"):
            values[stage] = {name: values[stage].get(name) for name in OF_A_STEP[stage]}
        values["search"]["every"] = recipe.search.selection.every
        found.setdefault(json.dumps(values), []).append(trial)
    return [*found.values()]


def _together(found: Sequence[Estimate]) -> Estimate:
    """One estimate of a recipe's trials from those of its paces; that of one which has a problem."""
    first = next((each for each in found if each.problem), found[0])
    if first.problem or len(found) == 1:
        return first
    totals = {name: sum(getattr(each, name) for each in found) for name in ("search_steps", "retrain_steps", "size")}
    return replace(first, seconds=sum(each.seconds or 0.0 for each in found), **totals)


def _at(recipe: Recipe, precision: Precision) -> Recipe:
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"dtype": precision})})


def _of(counts: tuple[str, int, int], todo: Sequence[Trial], probe: Probe) -> Estimate:
    search = plain = size = 0
    for trial, (searched, trained) in zip(todo, _steps(todo, probe.examples), strict=True):
        search, plain = search + searched, plain + trained
        method = method_class(trial.recipe.method.name)
        leaves = LEFT_BY_SEARCH if any(method.search_workload(trial.recipe, probe.examples)) else 1
        size += BESIDE + (probe.model_bytes if method.saves_model else probe.adapter_bytes * leaves)
    seconds = search * probe.search + plain * probe.plain + len(todo) * probe.loading
    return Estimate(*counts, search, plain, seconds, size)


def _steps(todo: Sequence[Trial], examples: int) -> list[tuple[int, int]]:
    """Search steps and plain steps of each trial, without those of a search that a run or a former trial has made."""
    found = []
    made = {trial.search_key for trial in todo if trial.source is not None}
    for trial in todo:
        method, key = method_class(trial.recipe.method.name), trial.search_key
        held_out = trial.recipe.data.splits.held_out if trial.tuning else None
        trained = round(examples * (1 - (held_out or 0.0)))
        search, plain = method.workload(trial.recipe, trained)
        if key is not None and key in made:
            shared = method.search_workload(trial.recipe, trained)
            search, plain = search - shared[0], plain - shared[1]
        made.add(key)
        found.append((search, plain))
    return found


def run_probe(recipes: Sequence[Recipe]) -> Probe | UserError | str:
    """The probe of a recipe, or why there is none: what the user has to mend, or anything else.

    Args:
        recipes: One, with the methods that are timed for: a LoRA of rank k and, where one takes any, search steps.
    """
    context = process_context()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_probe_into, args=(sender, recipes))
    process.start()
    sender.close()
    try:
        result: Probe | UserError | str = receiver.recv()
    except EOFError:
        result = "the probe ended without a word; was memory short?"
    process.join()
    return result


def _probe_into(sender: Connection, recipes: Sequence[Recipe]) -> None:
    """Target of the probe's process."""
    end_with_parent()
    hush()
    try:
        sender.send(probe(recipes))
    except UnreachableError as error:
        sender.send(str(error))
    except UserError as error:
        sender.send(UserError(str(error)))  # a kind that every process can read
    except Exception as error:
        sender.send(f"{type(error).__name__}: {error}")


def probe(recipes: Sequence[Recipe]) -> Probe:
    """Time a few steps. Raises UserError where data or model cannot be had, or cannot be used."""
    from autolora.context.base import Context
    from autolora.experiment.prepare import prepare
    from autolora.lora.adapter import add_adapter, uses_conv1d
    from autolora.lora.config import lora_config
    from autolora.lora.ranks import Ranks
    from autolora.lora.targets import target_shapes
    from autolora.methods.autolora import bilevel_search
    from autolora.training.finetune import Finetuning

    begun = time.monotonic()
    recipe = recipes[0].model_copy(update={"method": MethodSettings(name="lora", size=recipes[0].search.rank)})
    context = Context(recipe, show=False, trust_remote_code=True, announce=False)  # as `compare` has been told
    prepare(context)
    examples = context.examples(recipe.data.splits.train)
    model = context.model()
    head, k = context.head(model), recipe.search.rank
    shapes = target_shapes(model, context.targets(model))
    ranks = Ranks(dict.fromkeys(shapes, k), k, recipe.search.lora_alpha, shapes=shapes)
    loading = time.monotonic() - begun
    model_bytes = sum(parameter.numel() * 4 for parameter in model.parameters())
    searching = None
    if any(method_class(each.method.name).workload(each, len(examples))[0] for each in recipes):
        searching, _ = bilevel_search(context, context.model(), head, recipe.search)
    config = lora_config(
        ranks,
        head=head,
        task_type=context.task.peft_task_type,
        fan_in_fan_out=uses_conv1d(model, list(ranks)),
    )
    adapted = add_adapter(model, ranks, config).train()
    plain = Finetuning(
        adapted,
        context.gradients(adapted),
        context.stream(examples, recipe.retrain, "retrain"),
        recipe.retrain.weights,
        total=STEPS,
        seed=recipe.seed,
    )
    trained = sum(parameter.numel() * 4 for parameter in adapted.parameters() if parameter.requires_grad)
    seconds = 0.0 if searching is None else _search_seconds(searching, context, recipe.search.selection.every)
    return Probe(len(examples), _seconds(plain, context), seconds, loading, trained, model_bytes)


def _search_seconds(stage: Trainable, context: Context, every: int) -> float:
    """Mean seconds of a step of a search whose selection variables are stepped every n-th step."""
    stepped = _seconds(stage, context, [(i + 1) * every - 1 for i in range(STEPS)])
    if every == 1:
        return stepped
    return (stepped + (every - 1) * _seconds(stage, context, [i * every for i in range(STEPS)])) / every


def _seconds(stage: Trainable, context: Context, steps: Sequence[int] = range(STEPS)) -> float:
    """Mean seconds of these steps, once warm by the first."""
    import torch

    queued = context.compute.device.type != "cpu"  # its work is done later than it is asked for
    stage.advance(steps[0])
    if queued:
        torch.accelerator.synchronize()
    begun = time.monotonic()
    for step in steps[1:]:
        stage.advance(step)
    if queued:
        torch.accelerator.synchronize()
    return (time.monotonic() - begun) / (len(steps) - 1)


def in_words(seconds: float) -> str:
    """``2 h 05 min``, ``12 min``, ``40 s``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
