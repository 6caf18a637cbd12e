"""A base that is shared out over processes: what a recipe cannot have then, and the model in its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from autolora.model.kept import HeadOf
from autolora.recipe.schema import Recipe
from autolora.registry import METHODS
from autolora.training.compute import Compute
from autolora.training.sharding import launch_faults, shard

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def sharding_faults(recipe: Recipe, compute: Compute) -> Iterator[str]:
    """What is wrong with how a run was launched, and with its recipe there.

    Args:
        recipe: It.
        compute: The processes.
    """
    yield from launch_faults()
    if not compute.sharded:
        return
    model, search, name = recipe.model, recipe.search, recipe.method.name
    without = "or launch without --use_fsdp"
    if not METHODS.load(name).shards:
        yield f"method.name: {name} needs the base's own weights, which FSDP shares out; take another, {without}"
    if model.torch_compile:
        yield f"model.torch_compile: what is compiled cannot gather what FSDP shares out; leave it out, {without}"
    if model.quantization is not None:
        yield (
            f"model.quantization: {model.quantization} layers cannot be shared out by FSDP here; keep the base in 16 "
            f"bits (model.base_dtype: bfloat16), {without}"
        )
    if search.estimator == "exact":
        yield (
            "search.estimator: exact goes through the backward pass twice, and FSDP has let the weights go by then; "
            f"take central_difference, {without}"
        )
    if recipe.eval.generation.cache == "paged":
        yield (
            "eval.generation.cache: paged decodes without the other processes, and FSDP needs all of them in every "
            f"pass; set it to dynamic, {without}"
        )


def placed(model: PreTrainedModel, head: HeadOf, compute: Compute) -> PreTrainedModel:
    """The model on the device; where the base is shared out, this process's share of it.

    Args:
        model: As it was loaded.
        head: Gives the full names of the head's modules, which are whole everywhere.
        compute: The device and the processes.
    """
    if compute.sharded:
        shard(model, head(model), compute.device, compute.processes)
        return model
    moved: PreTrainedModel = model.to(compute.device)  # type: ignore[arg-type]  # its @wraps shows self
    return moved
