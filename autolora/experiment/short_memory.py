"""A stage that runs out of memory: where, at what sizes, and what would lower it, in numbers.

    with run.stage("search"), sized(run, context, "search"):
        …

The numbers are those of ``autolora memory`` (`autolora.experiment.memory`), at the sizes of the pass that failed.
"""

from __future__ import annotations

import shlex
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from autolora.allocation.gates import MEASURING
from autolora.causes import is_memory, load_of, short_of_memory
from autolora.context.base import Context
from autolora.errors import RunError
from autolora.experiment.memory import Passes, estimate, needed
from autolora.experiment.memory_passes import Work
from autolora.experiment.memory_recipe import settings_of
from autolora.experiment.memory_settings import MemorySettings, lighter
from autolora.experiment.memory_sizes import base_bytes, sizes
from autolora.methods.squeeze import Squeeze
from autolora.recipe.schema import Recipe
from autolora.registry import METHODS
from autolora.runs.store import Run
from autolora.training.checkpoint import read_record

GIB, MIB = 2**30, 2**20


@contextmanager
def sized(run: Run, context: Context, stage: str) -> Iterator[None]:
    """Inside, an exception that says that memory was short becomes a message with the sizes and with what to do.

    Args:
        run: The run.
        context: Of its recipe.
        stage: search, retrain or eval.

    Raises:
        RunError: Memory was short.
    """
    try:
        yield
    except Exception as error:
        if not is_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the tensors of the pass; its lines stay
        raise RunError(told(run, context, stage, error)) from error


def told(run: Run, context: Context, stage: str, error: BaseException) -> str:
    """The message.

    Args:
        run: The run.
        context: Of its recipe.
        stage: search, retrain or eval.
        error: What says that memory was short.
    """
    if context.compute.device.type == "cuda":
        torch.cuda.empty_cache()
    begin = f"{stage}: {short_of_memory(error)}; {_device(context)}"
    try:
        found = _Sizes(context, stage, load_of(error))
        more = f"more of it, part by part: autolora memory {shlex.quote(str(run.path))}"  # with all that --set said
        lines = [begin, found.said(), *found.lower(), more]
    except Exception as unknown:  # no number is worth hiding what happened
        lines = [begin, f"what it takes could not be computed here ({type(unknown).__name__}: {unknown})"]
    return "\n".join([*(line for line in lines if line), *_how_to_go_on(run, stage)])


def _device(context: Context) -> str:
    """What the device has, and what of it is in use."""
    device = context.compute.device
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        own = torch.cuda.max_memory_allocated(device)
        others = max(0, total - free - torch.cuda.memory_reserved(device))
        name = torch.cuda.get_device_name(device)
        return f"{name} has {_size(total)}: {_size(own)} at most were taken here, {_size(others)} by other programs"
    if device.type == "mps":
        total = torch.mps.recommended_max_memory()
        return f"the device has {_size(total)}, of which {_size(torch.mps.driver_allocated_memory())} are taken here"
    import psutil  # which accelerate brings

    machine, own = psutil.virtual_memory(), psutil.Process().memory_info().rss
    return f"the machine has {_size(machine.total)}, of which {_size(machine.available)} are free; {_size(own)} here"


@dataclass
class _Sizes:
    """What a stage is computed to take, at the sizes of the pass that failed."""

    context: Context
    stage: str
    load: dict[str, Any]

    def __post_init__(self) -> None:
        recipe, family = self.context.recipe, self.context.family
        self.config = self.context.skeleton.config
        found = settings_of(recipe, self.config, new_head=family.new_head, on_card=False)
        found = replace(found, precision=self.context.compute.precision)
        if "examples" in self.load:
            self.tokens, self.examples = self.load["tokens"], self.load["examples"]
        else:
            of = {"search": found.search_examples, "retrain": found.retrain_examples, "eval": recipe.eval.batch_size}
            self.tokens, self.examples = self._longest() or found.tokens, of[self.stage]
        self.settings = self._at(found)
        self.passes = Passes(self.config, family.auto_class)
        self.part = self._part()
        self.now = self.needs(self.settings)

    def _longest(self) -> int:
        """Tokens of the longest example of the run; 0 where none has been encoded yet."""
        return max((len(each["input_ids"]) for split in self.context.encoded.values() for each in split), default=0)

    def _at(self, settings: MemorySettings) -> MemorySettings:
        return replace(settings, tokens=self.tokens, search_examples=self.examples, retrain_examples=self.examples)

    def _part(self) -> str:
        """Which part of the estimate the stage is."""
        if self.stage == "search" and self.load.get("done") == MEASURING:
            return "squeeze"
        return "retrain" if self.stage == "search" and not _selects(self.context.recipe) else self.stage

    def needs(self, settings: MemorySettings) -> int:
        """Bytes of the device."""
        auto_class = self.context.family.auto_class
        if self.stage != "eval":
            stage = estimate(self.config, auto_class, settings, self.passes, (self.part,))[self.part]
            return needed(stage) if self.context.compute.device.type == "cuda" else stage.total
        of = sizes(self.config, auto_class, settings)
        work = Work(settings.retrain_examples, settings.tokens, of.targets, settings.rank, forward_only=True)
        return base_bytes(of, settings.base) + 4 * (of.lora + of.head) + self.passes(work).peak + self._cache(settings)

    def _cache(self, settings: MemorySettings) -> int:
        """Keys and values of the tokens so far, of a family that generates: float32."""
        if not self.context.family.decodes:
            return 0
        text = self.config.get_text_config(decoder=True)
        heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        tokens = settings.tokens + self.context.recipe.eval.generation.max_new_tokens
        return 4 * 2 * int(text.num_hidden_layers) * int(heads) * int(width) * settings.retrain_examples * tokens

    def said(self) -> str:
        """The sizes, and what they come to."""
        of = sizes(self.config, self.context.family.auto_class, self.settings)
        return (
            f"{self.context.recipe.model.name} has {_count(of.base)} parameters, and {_count(of.lora)} of LoRA at rank "
            f"{self.settings.rank}; base in {self.settings.base}, passes in {self.settings.precision}: about "
            f"{_size(self.now)} for {self.examples} x {self.tokens} tokens; what lowers that, each alone:"
        )

    def lower(self) -> Iterator[str]:
        """What would take less, the most effective first."""
        found = [(self.needs(less), text) for text, less in self._changes()]
        for size, text in sorted(found, key=lambda each: each[0]):
            if size < self.now:
                yield f"- {text}: {_size(size)}"

    def _changes(self) -> Iterator[tuple[str, MemorySettings]]:
        recipe = self.context.recipe
        # what an adapter was trained with is settled when it is measured
        for text, less in lighter(self.settings) if self.stage != "eval" else ():
            field = text.partition(":")[0]
            kept = recipe.method.name == "full" and field in ("model.base_dtype", "model.quantization")
            if field.startswith(("model.", "data.")) and not kept:
                yield text, less
        yield from self._smaller(recipe)

    def _smaller(self, recipe: Recipe) -> Iterator[tuple[str, MemorySettings]]:
        for factor in (2, 4):
            examples = -(-self.examples // factor)
            if examples * (factor // 2) >= self.examples:
                return
            less = replace(self.settings, search_examples=examples, retrain_examples=examples)
            if self.stage == "eval":
                yield f"eval.batch_size: {recipe.eval.batch_size} -> {max(1, recipe.eval.batch_size // factor)}", less
                continue
            section, of = _section(self.stage, recipe)
            now = of.gradient_accumulation
            yield f"{section}.gradient_accumulation: {now} -> {now * factor} (smaller pieces, the same batch)", less


def _section(stage: str, recipe: Recipe) -> tuple[str, Any]:
    """The section that says a stage's batches: a search without selection variables begins the retraining."""
    return ("search", recipe.search) if stage == "search" and _selects(recipe) else ("retrain", recipe.retrain)


def _selects(recipe: Recipe) -> bool:
    """Whether the search has selection variables."""
    return recipe.search.selects and not issubclass(METHODS.load(recipe.method.name), Squeeze)


def _how_to_go_on(run: Run, stage: str) -> Iterator[str]:
    """Which command goes on, with what was done already."""
    if stage == "eval":
        yield f"nothing is lost: autolora eval {run.path} --set eval.batch_size=… goes on"
        return
    checkpoint = run.path / stage / "checkpoint.safetensors"
    if not checkpoint.is_file():
        again = f"autolora {'run' if stage == 'search' else stage} {run.path}{' --resume' if stage == 'search' else ''}"
        kept = "" if stage == "search" else " (what the search depended on may not: data.max_length, for one)"
        yield (
            f"there is no checkpoint of {stage} yet, so that its settings may change in this run{kept}: {again} --set …"
        )
        return
    yield (
        f"its checkpoint of step {_step(checkpoint)} is kept, and fits these settings alone: where other programs have "
        f"ended, or on a larger device, autolora run {run.path} --resume goes on from it; with other settings {stage} "
        f"begins anew: remove {checkpoint}, and add --set …"
    )


def _step(checkpoint: Any) -> object:
    try:
        return read_record(checkpoint).get("step", "?")
    except Exception:  # damaged: said when it is gone on with
        return "?"


def _size(count: int) -> str:
    if count >= GIB:
        return f"{count / GIB:.2f} GiB"
    return f"{count / MIB:.1f} MiB" if count >= 10 * MIB else f"{count / MIB:.3f} MiB"


def _count(number: int) -> str:
    if number >= 1e6:
        return f"{number / 1e9:.2f} billion" if number >= 1e9 else f"{number / 1e6:.2f} million"
    return f"{number:,}"
