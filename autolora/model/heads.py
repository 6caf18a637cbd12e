"""What becomes of a head that the checkpoint brings along: ``settle_head(model, own, names, drawn)``.

Each output of a trained head means a class. It is kept only where names tell which: the checkpoint's rows are put into
the order of the task's names where both have the same ones; else the output layer is drawn anew, as it is where the
number of classes differs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

_NUMBERED = re.compile(r"LABEL_\d+")  # what transformers calls a class without a name
SHOWN = 6


def settle_head(
    model: PreTrainedModel, own: Mapping[int, str] | None, names: Sequence[str], drawn: Collection[str]
) -> tuple[frozenset[str], str]:
    """Put the outputs of a checkpoint's own head into the order of the task's names, or draw them anew, in place.

    Args:
        model: As it was loaded, with a head for the task's classes.
        own: The checkpoint's names of classes, by output; None where it says none.
        names: The task's, by output.
        drawn: Names of the parameters that the checkpoint did not give.

    Returns:
        The names of the parameters that are drawn now, and what is to be said about it; "" where the checkpoint brings
        no such head, or has its outputs in this order already.
    """
    layer = output_layer(model, len(names))
    if layer is None or any(f"{layer}.{inner}" in drawn for inner, _ in _module(model, layer).named_parameters()):
        return frozenset(), ""
    theirs = [str(own[i]) for i in sorted(own)] if own else []
    if theirs == list(names):
        return frozenset(), ""
    if sorted(theirs) == sorted(names) and len(set(names)) == len(names):
        _reorder(_module(model, layer), [theirs.index(name) for name in names])
        return frozenset(), (
            f"the checkpoint's own head has its classes as {_listed(theirs)}; {layer} is put into the order "
            f"{_listed(names)}"
        )
    _draw(model, layer)
    unnamed = not theirs or all(_NUMBERED.fullmatch(name) for name in theirs)
    why = "does not name its classes" if unnamed else f"is for other classes ({_listed(theirs)})"
    drawn_now = frozenset(f"{layer}.{inner}" for inner, _ in _module(model, layer).named_parameters())
    return drawn_now, f"the checkpoint's own head {why}; {layer} is drawn anew for {_listed(names)}"


def output_layer(model: PreTrainedModel, outputs: int) -> str | None:
    """The full name of the last linear layer beside the backbone, if it has so many outputs.

    Args:
        model: With its head.
        outputs: As many as there are classes.
    """
    backbone = f"{model.base_model_prefix}."
    linear = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and not n.startswith(backbone)]
    return linear[-1] if linear and _module(model, linear[-1]).out_features == outputs else None


def _module(model: PreTrainedModel, name: str) -> nn.Linear:
    module = model.get_submodule(name)
    assert isinstance(module, nn.Linear)
    return module


@torch.no_grad()
def _reorder(layer: nn.Linear, order: Sequence[int]) -> None:
    """Output i becomes what order[i] was."""
    for parameter in layer.parameters():
        parameter.copy_(parameter[list(order)].clone())


@torch.no_grad()
def _draw(model: PreTrainedModel, name: str) -> None:
    """As transformers draws a layer that a checkpoint lacks."""
    layer = _module(model, name)
    for parameter in layer.parameters():
        parameter._is_hf_initialized = False  # type: ignore[attr-defined]  # else it is left as it is
    model._init_weights(layer)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
