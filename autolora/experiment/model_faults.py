"""A recipe against its model's folder: names, ranks, task. Configurations and headers are read, weights are not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autolora.errors import Fault, UserError
from autolora.experiment.model_sizes import default_names
from autolora.model import header
from autolora.model.config import OUTPUT, is_encoder, read_config, ties_output
from autolora.model.folder import model_folder
from autolora.model.inspect import HEADS, Layers, read_layers
from autolora.planted.kinds import HEAD, is_planted, kind_of, layer_shapes
from autolora.recipe.load import Limit, Where
from autolora.recipe.method import check_targets, largest_rank
from autolora.recipe.schema import MethodSettings, Model, Search
from autolora.words import did_you_mean

DECODING = ("generation", "chat")  # tasks whose outputs are decoded token by token


def check_model(model: Model, where: Where, task: str | None = None, limit: Limit = None) -> list[Fault]:
    """What is wrong with the model's folder, the names of its layers, their ranks; nothing where it is not here yet.

    Args:
        model: The recipe's model section.
        where: Gives the place of a dotted field.
        task: The recipe's task family, whose head is meant.
        limit: The field that says the highest rank of a layer, and that rank.
    """
    revision = _revision_faults(model, where)
    try:
        folder = model_folder(model.name, model.revision)
        layers = _planted_layers(model.name) if is_planted(model.name) else None
        if folder is not None:
            layers = read_layers(folder, model.trust_remote_code, task)
    except UserError as error:
        return [*revision, Fault(where("model.name"), "model.name", str(error))]
    if folder is not None and (wrong := header.faults(folder)):
        return [*revision, *(Fault(where("model.name"), "model.name", message) for message in wrong)]
    faults = [*revision, *(_task_faults(folder, task, where) if folder else [])]
    if layers is None:
        return faults
    head = () if model.head == "auto" else model.head
    return [
        *faults,
        *_target_faults(layers, "model.target_modules", model.target_modules, head, where, limit, config_of(folder)),
        *_name_faults(layers, head, where),
        *_head_faults(folder, layers, head, task, where),
    ]


def check_method(
    model: Model, method: MethodSettings, search: Search, where: Where, task: str | None = None, limit: Limit = None
) -> list[Fault]:
    """What is wrong with the layers that a method names for itself, as far as the model's folder shows it.

    Args:
        model: The recipe's model section.
        method: Its method section.
        search: Its search section.
        where: Gives the place of a dotted field.
        task: The recipe's task family, whose head is meant.
        limit: It concerns the layers of the model section; the method's own is worked out here.
    """
    field = "method.targets"
    if method.targets is None:
        return []
    try:
        check_targets(method)  # imports the method's module, which others need not be for a check
        folder = model_folder(model.name, model.revision)
        layers = read_layers(folder, model.trust_remote_code, task) if folder else None
    except UserError as error:
        return [Fault(where(field), field, str(error))]
    head = () if model.head == "auto" else model.head
    if layers is None:
        return []
    limit = largest_rank(method, search)
    return list(_target_faults(layers, field, method.targets, head, where, limit, config_of(folder)))


def _revision_faults(model: Model, where: Where) -> list[Fault]:
    """A revision of a model that has none."""
    kinds = {"planted": is_planted(model.name), "bundled": model.name.startswith("bundled:")}
    kind = next((kind for kind, is_it in kinds.items() if is_it), "local" if Path(model.name).is_absolute() else "")
    if model.revision is None or not kind:
        return []
    message = f"revisions are of models on the hub, and {kind} ones have none, got {model.revision!r}"
    return [fault_at("model.revision", message, where, "leave it out")]


def _planted_layers(name: str) -> Layers:
    """The names of a planted model. Raises UserError where there is no such model."""
    kind_of(name)
    shapes = {layer: (m, n) for layer, (n, m) in layer_shapes().items()}
    modules = {".".join(layer.split(".")[:end]) for layer in shapes for end in range(1, layer.count(".") + 2)}
    layers = frozenset({*shapes, HEAD})
    return Layers(layers, frozenset({*modules, HEAD}), complete=True, shapes=shapes)


def _task_faults(folder: Path, task: str | None, where: Where) -> list[Fault]:
    """An encoder cannot generate, and its configuration says that it is one."""
    if task not in DECODING or not (folder / "config.json").is_file() or not is_encoder(config := read_config(folder)):
        return []
    message = f"{config['model_type']} is an encoder, which sees the tokens that come later and cannot generate text"
    hint = "take a decoder (GPT-2, Llama, …) or an encoder-decoder (T5, BART, …)"
    return [Fault(where("model.name"), "model.name", message, hint)]


def _target_faults(
    layers: Layers,
    field: str,
    targets: tuple[str, ...] | str | None,
    head: Sequence[str],
    where: Where,
    limit: Limit,
    config: Mapping[str, Any],
) -> Iterator[Fault]:
    """Targets that match nothing, or something in the head, or that are too small for their rank."""
    said = targets is not None
    if targets is None:  # PEFT's of the architecture, or all linear layers
        targets = default_names(str(config.get("model_type", ""))) or "all-linear"
    if isinstance(targets, str):  # all linear layers; of a pattern, whatever it matches
        found = [layer for layer in layers.linear() if not _in_head(layer, head)]
        found = [layer for layer in found if targets == "all-linear" or re.fullmatch(targets, layer)]
    else:
        if said:
            yield from _no_layers(layers, field, targets, where)
            yield from _heads_layers(layers, field, targets, head, where)
        found = [layer for name in targets for layer in layers.named(name)]
    if limit:
        yield from _rank_faults(layers, found, limit, where)


def _no_layers(layers: Layers, field: str, targets: Sequence[str], where: Where) -> Iterator[Fault]:
    """Targets that match nothing, or a parameter that is no layer's own."""
    for index, name in enumerate(targets):
        if name in layers.parameters:
            message = (
                f"{name!r} is a parameter of {layers.parameters[name]} dimensions, and LoRA here adapts linear layers"
            )
            yield fault_at(f"{field}.{index}", message, where, "leave it out")
        elif not layers.has_layer(name):
            yield _module_fault(f"{field}.{index}", name, "layer", layers.layers, where)


def _name_faults(layers: Layers, head: Sequence[str], where: Where) -> Iterator[Fault]:
    """Modules of the head that are none."""
    known = layers.modules if layers.complete else layers.modules | {*HEADS}
    for index, name in enumerate(head):
        if not layers.has_module(name):
            yield _module_fault(f"model.head.{index}", name, "module", known, where)


def _head_faults(
    folder: Path | None, layers: Layers, head: Sequence[str], task: str | None, where: Where
) -> Iterator[Fault]:
    """A head in a head; output embeddings that are the input's."""
    for index, name in enumerate(head):
        found = layers.named(name)
        if outer := next((o for o in head if o != name and any(_inside(f, o) for f in found)), None):
            yield fault_at(
                f"model.head.{index}", f"{name!r} lies in {outer!r}, which is trained as a whole", where, "leave it out"
            )
        if name.rpartition(".")[2] == OUTPUT and task in DECODING and _ties_output(folder, layers):
            message = f"{name!r} is tied to the input embeddings, which would be trained along"
            yield fault_at(f"model.head.{index}", message, where, "leave it out; LoRA needs no head here")


def config_of(folder: Path | None) -> Mapping[str, Any]:
    """What a model's folder says of it; nothing where there is no configuration.

    Args:
        folder: With the model; None where it is nowhere, as planted ones.
    """
    return read_config(folder) if folder is not None and (folder / "config.json").is_file() else {}


def _ties_output(folder: Path | None, layers: Layers) -> bool:
    return ties_output(config_of(folder), layers.tensors)


def _heads_layers(
    layers: Layers, field: str, targets: Sequence[str], head: Sequence[str], where: Where
) -> Iterator[Fault]:
    """A target in the head."""
    for index, name in enumerate(targets):
        full = layers.complete and name in layers.layers  # that layer alone
        inside = [layer for layer in ([name] if full else layers.named(name)) if _in_head(layer, head)]
        if inside:
            message = f"{name!r} matches {', '.join(sorted(inside)[:3])} in the head, which is trained in full"
            yield fault_at(f"{field}.{index}", message, where, "name the layers by more of their names")


def _in_head(layer: str, head: Sequence[str]) -> bool:
    return any(_inside(layer, module, strictly=False) for module in head)


def _rank_faults(layers: Layers, found: Sequence[str], limit: tuple[str, int], where: Where) -> Iterator[Fault]:
    """A rank above the smaller side of a layer."""
    field, rank = limit
    sides = {layer: min(layers.shapes[layer]) for layer in found if layer in layers.shapes}
    if small := {layer: side for layer, side in sides.items() if side < rank}:
        layer, side = min(small.items(), key=lambda item: (item[1], item[0]))
        yield fault_at(
            field, f"rank {rank} is above the smaller side of {layer} ({side})", where, f"lower it to {side}"
        )


def _inside(module: str, name: str, *, strictly: bool = True) -> bool:
    """Whether a module's full name has the parts of `name` in it, followed by more."""
    return f".{name}." in f".{module}" or (not strictly and f".{module}".endswith(f".{name}"))


def _module_fault(field: str, name: str, what: str, modules: frozenset[str], where: Where) -> Fault:
    ends = sorted({module.rsplit(".", 1)[-1] for module in modules if not module.rsplit(".", 1)[-1].isdigit()})
    near = did_you_mean(name, ends) or did_you_mean(name, sorted(modules))
    listed = ", ".join(ends[:12]) + (", …" if len(ends) > 12 else "")
    return fault_at(field, f"{name!r} matches no {what} of the model", where, near or f"it has: {listed}")


def fault_at(field: str, message: str, where: Where, hint: str = "") -> Fault:
    """A fault of a field; a list entry's is shown under the list's name, at the entry's own line.

    Args:
        field: Dotted.
        message: The rule and the value.
        where: Gives the place of a dotted field.
        hint: What to do.
    """
    head, _, last = field.rpartition(".")
    return Fault(where(field), head if last.isdigit() else field, message, hint)
