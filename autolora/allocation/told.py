"""Whether the rows of every layer's input can be told apart by example, as `autolora.allocation.rows` says.

A shape alone does not always say it: with as many positions as examples, an input of (positions, examples, features)
looks like one of (examples, positions, features), and one that is flattened may be in any order. So a batch with such
inputs is given twice, the second time with its last row first, and every layer's input has to follow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autolora.allocation.components import Components
from autolora.allocation.gates import MEASURING, SampledLoss
from autolora.allocation.passes import evaluating
from autolora.allocation.rows import Rows, UntoldError, rolled
from autolora.causes import loaded
from autolora.training.batches import load_of_batch
from autolora.training.seeds import derive, generator

TOLERANCE = 0.02  # of what layers see of a row in another place; that of bfloat16, with a margin


def untold(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    components: Mapping[str, Components],
    batch: Any,
    rows: Rows,
    loss: SampledLoss,
    *,
    exact: bool = True,
) -> UntoldError | None:
    """Why a batch's rows cannot be told apart in some layer; None where they can be in all.

    Args:
        model: Whatever the loss calls, on its device.
        layers: The LoRA layers by full module name.
        components: Of these layers, by the same names.
        batch: That the loss takes.
        rows: Its own.
        loss: The summed sampled loss of a batch.
        exact: As of `autolora.allocation.passes.evaluating`.
    """
    if rows.count < 2:
        return None
    with loaded({"done": MEASURING, **load_of_batch(batch)}), evaluating(model, exact=exact), torch.no_grad():
        try:
            seen = _seen(layers, components, rows, partial(loss, batch))
        except UntoldError as error:
            return error
        if all(_clear(x.shape[:-1], rows) for inputs in seen.values() for x in inputs):
            return None  # what cannot be given in another order (the images of all rows, in one) need not be
        wrong = ""
        for other in rolled(batch, rows):
            wrong = _elsewhere(rows, seen, _seen(layers, components, None, partial(loss, other)))
            if not wrong:
                return None
    shape = seen[wrong][0].shape[:-1] if seen[wrong] else ()
    return UntoldError(wrong, shape, rows.count, " that does not follow their order")


def _clear(shape: Sequence[int], rows: Rows) -> bool:
    """Whether an input's first dimension can be nothing but that of the batch's rows."""
    return len(shape) > 1 and shape[0] == rows.size != shape[1]


def _elsewhere(rows: Rows, seen: Mapping[str, list[Tensor]], again: Mapping[str, list[Tensor]]) -> str:
    """The first layer whose inputs do not follow the rows of a batch to their other places; "" where all do."""
    for name, inputs in seen.items():
        if len(inputs) != len(again[name]) or not all(map(_same, map(rows.rolled, inputs), again[name])):
            return name
    return ""


def _seen(
    layers: Mapping[str, nn.Module],
    components: Mapping[str, Components],
    rows: Rows | None,
    loss: Callable[[torch.Generator], object],
) -> dict[str, list[Tensor]]:
    """What every layer is called with, as its components see it: (*shape, q), in the order of the calls."""
    found: dict[str, list[Tensor]] = {name: [] for name in layers if len(components[name])}

    def hook(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        x, v = inputs[0], components[name].v
        if rows is not None:
            rows.spread(torch.empty(rows.count, 1), x.shape[:-1], name)
        v = v.T.to(x.device, torch.promote_types(x.dtype, torch.float32))
        with torch.autocast(x.device.type, enabled=False):
            found[name].append(F.linear(x.to(v.dtype), v))

    with ExitStack() as stack:
        for name in found:
            stack.callback(layers[name].register_forward_pre_hook(partial(hook, name)).remove)
        loss(generator(derive(0, "told")))
    return found


def _same(expected: Tensor, found: Tensor) -> bool:
    if expected.shape != found.shape:
        return False
    return bool((expected - found).norm() <= TOLERANCE * expected.norm())
