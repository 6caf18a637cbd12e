"""Which modules get LoRA, and which belong to the head.

A name matches a module by its full name or by a dotted end of it: ``query`` matches
``bert.encoder.layer.0.attention.self.query`` and not ``myquery``. A target that is a layer's full name means that layer
alone, whatever else ends in it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from torch import nn
from transformers.pytorch_utils import Conv1D

from autolora.errors import UserError


def matches(module: str, name: str) -> bool:
    """Whether the recipe's `name` means this module.

    Args:
        module: The module's full name.
        name: The same, or a dotted end of it.
    """
    return module == name or module.endswith("." + name)


def target_modules(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """The linear layers that `names` mean, by full name, in the model's order.

    Args:
        model: Any module.
        names: In full, or dotted ends.

    Raises:
        UserError: A name matches no layer, or one that is neither nn.Linear nor Conv1D.
    """
    found: dict[str, nn.Module] = {}
    modules = dict(model.named_modules())
    full, ends = {name for name in names if name in modules}, [name for name in names if name not in modules]
    for module_name, module in modules.items():
        if module_name in full or any(matches(module_name, name) for name in ends):
            if not isinstance(module, nn.Linear | Conv1D):
                raise UserError(
                    f"target module {module_name} is a {type(module).__name__}; LoRA here adapts nn.Linear and Conv1D"
                )
            found[module_name] = module
    _no_parameters(model, ends)
    _all_matched(ends, found, (n for n, m in modules.items() if isinstance(m, nn.Linear | Conv1D)), "target")
    return found


def check_bare(model: nn.Module) -> None:
    """Make sure that a model is none that another one is wrapped in: its layers' names would fit no other.

    Args:
        model: As the caller has it.

    Raises:
        UserError: It is one of torch's wrappers.
    """
    parallel = isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
    # What torch.compile gives: its class lies in a module that takes long to import, and PEFT's pass its attributes on.
    inside = "module" if parallel else "_orig_mod" if type(model).__name__ == "OptimizedModule" else None
    if inside is not None:
        raise UserError(
            f"the model is a {type(model).__name__}, by whose layers' names no other model could be adapted; pass the "
            f"model inside: model.{inside}"
        )


def target_shapes(model: nn.Module, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """(input, output) features of the layers that `names` mean, by full name, in the model's order.

    Raises:
        UserError: As `target_modules`.
    """
    return {name: input_output_features(module) for name, module in target_modules(model, names).items()}


def default_targets(model: nn.Module, head: Sequence[str]) -> tuple[list[str], str]:
    """The layers that get LoRA where a recipe names none: those of PEFT's table, or every linear layer of the backbone.

    Args:
        model: The pretrained model with its task head.
        head: Full names of the head's modules.

    Returns:
        Names for `target_modules`, and where they come from, to be said.
    """
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as TABLE

    kind = str(getattr(getattr(model, "config", None), "model_type", ""))
    found = TABLE.get(kind)
    if isinstance(found, str):  # a regular expression
        return [name for name, _ in _linear(model) if re.fullmatch(found, name)], f"PEFT's for {kind}"
    if found is not None:
        return list(found), f"PEFT's for {kind}"
    return all_linear(model, head), f"every linear layer of the backbone, as PEFT has none for {kind}"


def all_linear(model: nn.Module, head: Sequence[str]) -> list[str]:
    """Full names of every linear layer of the backbone, in the model's order: without head and output embeddings.

    Args:
        model: The pretrained model with its task head.
        head: Full names of the head's modules.
    """
    output: object = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    backbone = _backbone(model)
    return [
        name
        for name, module in _linear(model)
        if module is not output and in_modules(name, backbone) and not in_modules(name, head)
    ]


def _linear(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]


def _backbone(model: nn.Module) -> list[str]:
    """The child that is the pretrained model; where none has its name (T5's), all of them."""
    children = dict(model.named_children())
    name = str(getattr(model, "base_model_prefix", ""))
    return [name] if name in children else list(children)


def in_modules(name: str, modules: Iterable[str]) -> bool:
    """Whether a full name is one of these modules', or that of something within one.

    Args:
        name: Of a module or a parameter.
        modules: Full names.
    """
    return any(f"{name}.".startswith(f"{module}.") for module in modules)


def head_modules(model: nn.Module, names: Sequence[str] | None) -> list[str]:
    """Full names of the modules that make up the task head.

    Args:
        model: The pretrained model with its task head.
        names: In full, or dotted ends. A pretrained pooler that the checkpoint never trained for this use
            (``bert.pooler`` of a sentence encoder) has to be named. None: every top-level child with parameters beside
            the backbone (``classifier``, ``score``, DeBERTa's ``pooler``).

    Raises:
        UserError: A name matches no module.
    """
    if names is None:
        backbone = getattr(model, "base_model_prefix", "")
        return [n for n, m in model.named_children() if n != backbone and any(True for _ in m.parameters())]
    found = [name for name, _ in model.named_modules() if any(matches(name, wanted) for wanted in names)]
    _all_matched(names, found, (n for n, _ in model.named_modules() if n), "head")
    return found


def _all_matched(names: Iterable[str], found: Iterable[str], candidates: Iterable[str], what: str) -> None:
    found, ends = list(found), {candidate.rsplit(".", 1)[-1] for candidate in candidates}
    for name in names:
        if not any(matches(module, name) for module in found):
            near = difflib.get_close_matches(name, sorted(ends), 1)
            hint = f"did you mean {near[0]!r}?" if near else f"the model has: {', '.join(sorted(ends))}"
            raise UserError(f"{what} module {name!r} matches no layer of the model; {hint}")


def _no_parameters(model: nn.Module, names: Iterable[str]) -> None:
    """Weights that are no module's own, such as those of all experts together, are no layers."""
    found = {module for module, _ in model.named_modules()}
    for parameter, tensor in model.named_parameters():
        for name in names:
            if matches(parameter, name) and parameter not in found:
                raise UserError(
                    f"target module {name!r} is the parameter {parameter} of {tensor.ndim} dimensions; LoRA here "
                    "adapts nn.Linear and Conv1D"
                )


def input_output_features(layer: nn.Module) -> tuple[int, int]:
    """The input and output size (n, m) of a linear layer, whichever way its weight lies.

    Args:
        layer: An nn.Linear, or a Conv1D, which keeps its weight as (n, m).
    """
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    n, m = layer.weight.shape  # type: ignore[misc]  # Conv1D keeps its weight transposed
    return int(n), int(m)
