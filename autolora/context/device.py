"""Whether this machine can do what a recipe says of precision, memory and speed: ``check_device(context)``.

Before a stage begins; what is wrong is refused with the reason, and nothing else is done instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from autolora.context.base import Context
from autolora.context.sharding import sharding_faults
from autolora.errors import UserError
from autolora.model.kept import MISSING
from autolora.training.bits import optimizer_fault
from autolora.training.compiled import compile_fault

FLASH = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}  # packages


def check_device(context: Context) -> None:
    """Make sure that device and packages are there for what the recipe says.

    Args:
        context: Of the recipe.

    Raises:
        UserError: With everything that is not.
    """
    if faults := list(_faults(context)):
        raise UserError("\n".join(faults))


def _faults(context: Context) -> Iterator[str]:
    model, device = context.recipe.model, context.compute.device
    yield from sharding_faults(context.recipe, context.compute)
    if model.quantization is not None and find_spec("bitsandbytes") is None:
        yield MISSING
    attention = model.attn_implementation
    if attention in FLASH:
        if device.type != "cuda":
            yield f"model.attn_implementation: {attention} needs a CUDA device, not {device.type}; write sdpa"
        elif find_spec(FLASH[attention]) is None:
            yield f"model.attn_implementation: {attention} needs the package {FLASH[attention]}, which is not installed"
        elif not context.compute.bfloat16:
            yield f"model.attn_implementation: {attention} computes in 16 bits, and passes are in float32; write sdpa"
    if model.torch_compile and (fault := compile_fault(device)):
        yield f"model.torch_compile: {fault}"
    for stage in ("search", "retrain"):
        name = getattr(context.recipe, stage).weights.optimizer
        if fault := optimizer_fault(name, device):
            yield f"{stage}.weights.optimizer: {fault}"
    try:
        _ = context.kept
    except UserError as error:
        yield str(error)
