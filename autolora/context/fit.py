"""Whether the loaded model fits the recipe: ``check_fit(context, model, examples)``, before a stage's first step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from transformers import PreTrainedModel

from autolora.console import warn
from autolora.context.base import Context
from autolora.errors import UserError
from autolora.lora.exact import adapter_faults, head_faults, rank_faults, target_faults
from autolora.lora.targets import input_output_features, target_modules
from autolora.model.explain import pickled
from autolora.model.fit import behaviour_faults, input_faults, packing_faults, unknown_faults
from autolora.recipe.method import largest_rank
from autolora.tasks.decoding import cache_fault
from autolora.training.batches import Example


def check_fit(context: Context, model: PreTrainedModel, examples: Sequence[Example], *, lora: bool = True) -> None:
    """Make sure that the model can take the examples, do the task, and be adapted as the recipe says.

    Args:
        context: Of the run.
        model: As the context gives it; it stays as it is.
        examples: Of one split, encoded.
        lora: Whether layers get LoRA.

    Raises:
        UserError: With everything that does not fit.
    """
    _say_pickled(context)
    faults = [*_input_faults(context, model, examples), *unknown_faults(context.tokenizer, examples)]
    if not faults:  # else a forward pass could not be made
        pad = int(context.tokenizer.pad_token_id)
        faults += behaviour_faults(model, examples, pad, decodes=context.family.decodes)
        faults += packing_faults(model, examples) if context.recipe.data.packing else []
    looked_at = context.skeleton if context.compute.sharded else model  # which cannot be copied
    _refuse([*faults, *_lora_faults(context, looked_at, lora=lora)])


def check_skeleton(context: Context, splits: Iterable[str], *, lora: bool) -> None:
    """The same before the weights are loaded, for several splits: all that needs no forward pass. Once for each split.

    Args:
        context: Of the run.
        splits: Their names.
        lora: Whether layers get LoRA.

    Raises:
        UserError: With everything that does not fit.
    """
    new = [split for split in splits if split not in context.fitting]
    if not new:
        return
    model = context.skeleton
    faults = [fault for split in new for fault in _input_faults(context, model, context.examples(split))]
    if context.task.decodes and (fault := cache_fault(model, context.recipe.eval.generation)):
        faults.append(fault)
    for split in new if context.task.tokens_scored else ():
        if split != context.recipe.data.splits.train and context.splits.reports[split].labelled:
            faults += _input_faults(context, model, context.teacher_forced(split)[0])
    _refuse([*faults, *_lora_faults(context, model, lora=lora)])
    context.fitting.update(new)


def _say_pickled(context: Context) -> None:
    named = Path(context.recipe.model.name)
    if context.main and context.show and named.is_absolute() and (said := pickled(named)):
        warn(said)


def check_inputs(context: Context, model: PreTrainedModel, examples: Sequence[Example]) -> None:
    """Make sure that the model can take the examples.

    Args:
        context: Of the run.
        model: Adapted or not.
        examples: Of one split, encoded.

    Raises:
        UserError: With everything that it cannot take.
    """
    _refuse(_input_faults(context, model, examples))


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise UserError("\n".join(dict.fromkeys(faults)))


def _input_faults(context: Context, model: PreTrainedModel, examples: Sequence[Example]) -> list[str]:
    return input_faults(model, examples, int(context.tokenizer.pad_token_id), context.task.longest(examples))


def _lora_faults(context: Context, model: PreTrainedModel, *, lora: bool) -> Iterator[str]:
    """The layers are called as the recipe says them: the model's, or the method's own."""
    field = "model.target_modules:" if context.recipe.method.targets is None else "method.targets:"
    for fault in _adapter_faults(context, model, lora=lora):
        yield fault.replace("model.target_modules:", field, 1)


def _adapter_faults(context: Context, model: PreTrainedModel, *, lora: bool) -> Iterator[str]:
    try:
        head = context.head(model)
    except UserError as error:
        yield f"model.head: {error}"
        return
    of_head = list(head_faults(model, head))
    yield from of_head
    if not lora:
        return
    try:
        layers = target_modules(model, context.targets(model))
    except UserError as error:
        yield f"model.target_modules: {error}"
        return
    if not layers:
        yield "model.target_modules: the model has no linear layer; name the layers that get LoRA"
        return
    of_targets = list(target_faults(list(layers), head))
    yield from of_targets
    if (limit := largest_rank(context.recipe.method, context.recipe.search)) is not None:
        yield from rank_faults({name: input_output_features(layer) for name, layer in layers.items()}, *limit)
    if not of_head and not of_targets:
        yield from adapter_faults(model, list(layers), head, context.task.peft_task_type)
