"""How a model is put for passes that measure it: ``with evaluating(model, exact=runs_exactly(model, run)): ...``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any

import torch
from torch import nn

from autolora.causes import is_memory
from autolora.errors import UserError
from autolora.training.seeds import unmoved


@contextmanager
def evaluating(model: nn.Module, *, exact: bool = True) -> Iterator[None]:
    """Inside, the model is in evaluation mode; afterwards every module has its mode again.

    All of it is computed module by module: compiled code would know nothing of hooks that are put on now, and
    nn.TransformerEncoderLayer's fast path for evaluation nothing of what PEFT puts in its parts' places.

    Args:
        model: Any module.
        exact: Without autocast, the caller's or that of the forward of accelerate's; False: with it, as it is trained,
            for a model that does not run without (`runs_exactly`).
    """
    modes = {module: module.training for module in model.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with _without_autocast(model) if exact else _with_autocast(), _uncompiled(model):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, mode in modes.items():
            module.training = mode


def runs_exactly(model: nn.Module, run: Callable[[], object]) -> bool:
    """Whether passes can be without autocast; tried where the model may be one that is trained with it.

    Such a model has parameters of several precisions: a base in bfloat16, and what is trained in float32.

    Args:
        model: Any module.
        run: Makes a pass of it.

    Returns:
        What `evaluating` takes as `exact`.

    Raises:
        UserError: They cannot, and there is no autocast, neither the caller's nor that of a model of accelerate's.
    """
    precisions = _precisions(model)
    offered = torch.is_autocast_enabled(_device(model)) or _prepared(model) is not None
    if not offered and len(precisions) < 2:
        return True
    try:
        with evaluating(model), torch.no_grad(), unmoved(range(torch.cuda.device_count())):
            run()
    except RuntimeError as error:
        if is_memory(error):
            raise
        if offered:
            return False
        if "type" not in str(error):  # as each of torch's messages about this says: dtype, scalar type, input type
            raise
        raise UserError(_several(model, precisions, error)) from error
    return True


def check_differentiable(model: nn.Module) -> None:
    """Make sure that gradients can go through a model.

    Args:
        model: Any module.

    Raises:
        UserError: A parameter of it was made in inference mode.
    """
    for name, parameter in model.named_parameters():
        if parameter.is_inference():
            raise UserError(
                f"the parameter {name} was made in inference mode, and no gradient can go through such a tensor; make "
                "or load the model outside of torch.inference_mode()"
            )


@contextmanager
def _without_autocast(model: nn.Module) -> Iterator[None]:
    """Inside, neither the caller's autocast nor that around the forward of a model that accelerate prepared is on."""
    wrapped, original = model.__dict__.get("forward"), _prepared(model)
    try:
        if original is not None:
            model.forward = original
        with torch.autocast(_device(model), enabled=False):
            yield
    finally:
        if original is not None:
            model.forward = wrapped  # type: ignore[assignment]


@contextmanager
def _with_autocast() -> Iterator[None]:
    """Inside, all is as it is; afterwards the caller's autocast casts anew: what it keeps may have no gradients."""
    try:
        yield
    finally:
        torch.clear_autocast_cache()


def _prepared(model: nn.Module) -> Callable[..., Any] | None:
    """The model's own forward, where accelerate put one with autocast in its place."""
    wrapped, original = model.__dict__.get("forward"), model.__dict__.get("_original_forward")
    return original if wrapped is not None else None


def _device(model: nn.Module) -> str:
    return next((parameter.device.type for parameter in model.parameters()), "cpu")


def _precisions(model: nn.Module) -> dict[torch.dtype, list[str]]:
    """The modules that have parameters or buffers of each precision."""
    found: dict[torch.dtype, dict[str, None]] = {}
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_floating_point():
            found.setdefault(tensor.dtype, {})[name.rpartition(".")[0]] = None
    return {dtype: list(names) for dtype, names in found.items()}


def _several(model: nn.Module, precisions: Mapping[torch.dtype, Sequence[str]], error: RuntimeError) -> str:
    """What to do about a model of several precisions that needs autocast."""

    def some(names: Sequence[str]) -> str:
        return names[0] + (f" and {len(names) - 1} other modules" if len(names) > 1 else "")

    said = {str(dtype).removeprefix("torch."): some(names) for dtype, names in precisions.items()}
    narrow = min(precisions, key=lambda dtype: dtype.itemsize)
    return (
        f"the model is of several precisions ({', '.join(f'{dtype} in {names}' for dtype, names in said.items())}), "
        f"and does not run without autocast ({str(error).splitlines()[0][:200]}); call squeeze under the autocast that "
        f"it is trained with, such as torch.autocast({_device(model)!r}, dtype={narrow})"
    )


def _uncompiled(model: nn.Module) -> AbstractContextManager[object]:
    """Inside, what of a model is compiled is run as it is written; without such a part nothing is imported for that."""
    compiled = any(each._compiled_call_impl is not None or hasattr(each, "_orig_mod") for each in model.modules())
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()
