"""Whether a checkpoint filled the model: ``check_complete(model, loading, head, name)``.

transformers draws at random what a checkpoint lacks, or has in another shape. Where that is the head, which is trained
and saved, it is what is wanted; anything else would be frozen, not saved, and drawn anew by whoever loads the adapter.

What a checkpoint has more is left out where it is another task's: its head, its pooler, what predicts masked words.
It is refused where it belongs to the backbone that is used here: then it is another model than its configuration says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from autolora.errors import UserError
from autolora.model.names import foreign

OWN_CONFIG = "take the config.json that belongs to these weights"
SHOWN = 6  # names of tensors in a message
BUFFERS = ("position_ids", "inv_freq", "masked_bias")  # which earlier versions of transformers saved

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Loading:
    """What became of a checkpoint's tensors.

    Args:
        drawn: Names of the model's parameters that the checkpoint did not give.
        mismatched: Of those, the shape in the checkpoint and the model's, where the checkpoint has another one.
        unexpected: Names of the checkpoint's tensors that the model has no place for.
    """

    drawn: frozenset[str]
    mismatched: Mapping[str, tuple[Shape, Shape]]
    unexpected: frozenset[str]

    @classmethod
    def of(cls, model: PreTrainedModel, report: Mapping[str, Any]) -> Loading:
        """From transformers' own report.

        Args:
            model: As it was loaded; tied parameters are one.
            report: As `output_loading_info` gives it.
        """
        shapes = {name: (tuple(found), tuple(wanted)) for name, found, wanted in report["mismatched_keys"]}
        lacking = {*report["missing_keys"], *shapes}
        drawn = {name for name, _ in model.named_parameters() if name in lacking}
        return cls(frozenset(drawn), shapes, frozenset(report["unexpected_keys"]))


def check_complete(model: PreTrainedModel, loading: Loading, head: Sequence[str], name: str) -> None:
    """Make sure that nothing but the head was drawn at random, and that no layer of the checkpoint was left out.

    Args:
        model: As it was loaded.
        loading: What became of the checkpoint's tensors.
        head: Full names of the modules that are trained in full.
        name: The model, as the recipe calls it.

    Raises:
        UserError: The checkpoint is not that of the model.
    """
    outside = sorted(tensor for tensor in loading.drawn if not _inside(tensor, head))
    left_out = sorted(tensor for tensor in loading.unexpected if _of_backbone(tensor, model))
    if (outside or left_out) and (fault := foreign(loading.unexpected, name)):
        raise UserError(f"model.name: {fault}")
    if other := [tensor for tensor in outside if tensor in loading.mismatched]:
        raise UserError(_mismatch(other, loading, name))
    if left_out:
        raise UserError(
            f"model.name: {name} has {len(left_out)} tensors for which its config.json has no place: "
            f"{_listed(left_out)}; {OWN_CONFIG}"
        )
    if outside:
        raise UserError(
            f"model.name: {name} lacks {len(outside)} of the {len(list(model.parameters()))} tensors of "
            f"{type(model).__name__}, which would be drawn at random, not trained and not saved: {_listed(outside)}; "
            f"{_remedy(model, outside, loading, head)}"
        )


def _inside(name: str, modules: Collection[str]) -> bool:
    return any(name.startswith(f"{module}.") for module in modules)


def _of_backbone(tensor: str, model: PreTrainedModel) -> bool:
    """Whether a tensor that found no place lies in a part of the backbone that was built."""
    name = tensor.removeprefix(f"{model.base_model_prefix}.")
    parts = {part for part, child in model.base_model.named_children() if any(True for _ in child.parameters())}
    return name.partition(".")[0] in parts and not name.endswith(BUFFERS)


def _mismatch(names: Sequence[str], loading: Loading, name: str) -> str:
    found, wanted = loading.mismatched[names[0]]
    return (
        f"model.name: {name} has {len(names)} of its tensors in other shapes than its config.json says: "
        f"{_listed(names)} ({names[0]} is {_shape(found)}, and should be {_shape(wanted)}); {OWN_CONFIG}"
    )


def _remedy(model: PreTrainedModel, outside: Sequence[str], loading: Loading, head: Sequence[str]) -> str:
    """Train them, where they are a module on top of the layers; else another checkpoint."""
    modules = dict.fromkeys(_whole(name, model, loading.drawn) for name in outside)
    another = "take a checkpoint that has them"
    if any(_is_stack(model, module) for module in modules):
        return f"{OWN_CONFIG}, or {another}"
    names = ", ".join(module.removeprefix(f"{model.base_model_prefix}.") for module in [*modules, *head])
    return f"train them along with model.head: [{names}], or {another}"


def _whole(name: str, model: PreTrainedModel, drawn: Collection[str]) -> str:
    """The largest module around a tensor that was drawn as a whole."""
    module = name.rpartition(".")[0]
    while parent := module.rpartition(".")[0]:
        if any(f"{parent}.{inner}" not in drawn for inner, _ in model.get_submodule(parent).named_parameters()):
            break
        module = parent
    return module


def _is_stack(model: PreTrainedModel, module: str) -> bool:
    """Whether it is one of the layers, or has layers or embeddings in it: nothing that is trained as a head."""
    numbered = any(part.isdigit() for part in module.split("."))
    return numbered or any(isinstance(m, nn.ModuleList | nn.Embedding) for m in model.get_submodule(module).modules())


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def _shape(shape: Shape) -> str:
    return " × ".join(map(str, shape))
