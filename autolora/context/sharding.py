"""What a recipe cannot have while its base is shared out over processes: ``sharding_faults(recipe, compute)``."""

from __future__ import annotations

from collections.abc import Iterator

from autolora.recipe.schema import Recipe
from autolora.registry import METHODS
from autolora.training.compute import Compute
from autolora.training.sharding import launch_faults


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
