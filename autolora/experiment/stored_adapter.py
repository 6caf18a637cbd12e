"""A stored adapter, wherever it was trained, held against the recipe that it is to be measured by, and loaded.

    stored = read_stored(Path("my-adapter"))          # from PEFT, a Trainer, or a run
    recipe = fitting(recipe, stored)                  # whose layers and head are the adapter's
    check_built(stored, context)                      # every tensor, before any weight is loaded
    adapted = load_stored(stored, context)            # as stock PEFT loads it, in float32

What does not fit is refused by name, and so is every kind of LoRA whose update is not s B A on a linear layer.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear
from safetensors import SafetensorError
from torch import nn
from transformers.pytorch_utils import Conv1D

from autolora.allocation.components import adapter_of
from autolora.causes import is_memory
from autolora.context.base import Context
from autolora.errors import UserError
from autolora.files import file_hash, read_json
from autolora.lora.adapter import lora_layers
from autolora.lora.config import ADDED, matched
from autolora.lora.exact import without_weights
from autolora.lora.loading import peft_shapes
from autolora.lora.stored import CONFIG, TENSORS, WRAPPED, Shape, read_config, read_shapes, tensor_faults
from autolora.model.load import base_name
from autolora.recipe.schema import MethodSettings, Recipe
from autolora.training.finite import not_finite

# Entries of PEFT's configuration that a plain LoRA may have; any other one that says something is a variant's.
PLAIN = {
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "r", "target_modules", "exclude_modules", "lora_alpha", "lora_dropout", "fan_in_fan_out"),
    *("bias", "use_rslora", "modules_to_save", "init_lora_weights", "layers_to_transform", "layers_pattern"),
    *("rank_pattern", "alpha_pattern", "qalora_group_size", "megatron_core", "runtime_config"),
    *("eva_config", "loftq_config", "corda_config", "lora_ga_config"),  # of the initialisation, which is over
}
BEGINNINGS = (True, False, None, "gaussian", "orthogonal", "eva")  # which leave the base model's weights as they are
SHOWN = 3  # faults in a message


@dataclass(frozen=True)
class Stored:
    """An adapter in a folder, a plain LoRA as far as its files show it.

    Args:
        folder: With adapter_config.json and adapter_model.safetensors.
        config: The content of the former.
        shapes: Of the tensors, by the name in the latter.
        layers: Full names of the layers that have LoRA, in the order of their names.
        saved: Full names of the modules that were trained in full: the head.
        names: Of the classes, by id, where the folder says them; else None.
    """

    folder: Path
    config: Mapping[str, Any]
    shapes: Mapping[str, Shape]
    layers: tuple[str, ...]
    saved: tuple[str, ...]
    names: tuple[str, ...] | None

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of both files, by name."""
        return {name: file_hash(self.folder / name) for name in (CONFIG, TENSORS)}


def read_stored(folder: Path) -> Stored:
    """What a folder holds, without the weights.

    Args:
        folder: The adapter's.

    Raises:
        UserError: There is no adapter, it cannot be read, or it is of a kind that cannot be decomposed.
    """
    for name in (CONFIG, TENSORS):
        if not (folder / name).is_file():
            pickled = " (it holds a pickle, adapter_model.bin, which is not read; save it anew as safetensors)"
            more = pickled if name == TENSORS and (folder / "adapter_model.bin").exists() else ""
            raise UserError(f"{folder} is no stored adapter: it has no {name}{more}")
    config = read_config(folder)
    _refuse(folder / CONFIG, "cannot be compressed with data", list(_variants(config)))
    shapes = read_shapes(folder)
    ending = ".lora_A.weight"
    layers = tuple(name.removeprefix(WRAPPED).removesuffix(ending) for name in sorted(shapes) if name.endswith(ending))
    strange = [name for name in sorted(shapes) if not name.startswith(WRAPPED)]
    if strange or not layers:
        found = f"{strange[0]} is not named as PEFT names tensors" if strange else "there is no lora_A in it"
        raise UserError(f"{folder / TENSORS} is no LoRA of PEFT's on linear layers: {found}")
    return Stored(folder, config, shapes, layers, _saved(config, shapes), _class_names(folder))


def _variants(config: Mapping[str, Any]) -> Iterator[str]:
    """What makes it another thing than s B A on linear layers."""
    if config.get("peft_type") != "LORA":
        yield f"peft_type is {config.get('peft_type')!r}, and only LORA has components to choose among"
    for key, value in config.items():
        if key not in PLAIN and value not in (None, False, [], {}):
            yield f"{key} is {str(value)[:60]}, which a plain LoRA does not have"
    if config.get("bias", "none") != "none":
        yield f"bias is {config['bias']!r}: a layer that keeps nothing would lose its trained bias"
    if (begun := config.get("init_lora_weights", True)) not in BEGINNINGS:
        yield (
            f"init_lora_weights is {begun!r}, which changes the base model's weights whenever PEFT loads it; convert "
            "it first (PEFT: save_pretrained with path_initial_model_for_weight_conversion)"
        )


def _saved(config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    """The modules whose own tensors are in the file; PEFT finds them by the ends of their names."""
    ends = (*(config.get("modules_to_save") or ()), *ADDED.get(config.get("task_type") or "", ()))
    found: dict[str, None] = {}
    for name in shapes:
        if ".lora_" in name:
            continue
        parts = name.removeprefix(WRAPPED).split(".")
        modules = (".".join(parts[:i]) for i in range(1, len(parts)))
        if (module := next((each for each in modules if each.endswith(ends)), None)) is not None and ends:
            found[module] = None
    return tuple(sorted(found))


def _class_names(folder: Path) -> tuple[str, ...] | None:
    """Of a model's configuration beside the adapter, as autolora writes one; transformers' placeholders say nothing."""
    path = folder / "config.json"
    if not path.is_file():
        return None
    content = read_json(path)
    own = content.get("id2label") if isinstance(content, dict) else None
    if not isinstance(own, dict) or not own:
        return None
    try:
        names = tuple(str(own[key]) for key in sorted(own, key=int))
    except ValueError as error:
        raise UserError(f"{path}: id2label has keys that are no numbers: {error}") from error
    return None if names == tuple(f"LABEL_{i}" for i in range(len(names))) else names


def fitting(recipe: Recipe, stored: Stored, *, elsewhere: bool = False) -> Recipe:
    """The recipe with the adapter's layers and head in it, where what it says itself is not something else.

    Args:
        recipe: As it is read.
        stored: The adapter.
        elsewhere: Whether the recipe's model is known to be the adapter's base by another name, in another place.

    Returns:
        Its method is a plain LoRA's, at the rate that the recipe's method is trained with.

    Raises:
        UserError: The recipe is of another base model, another head or other layers; all of them together.
    """
    _refuse(stored.folder, f"does not fit the recipe {recipe.name}", list(_recipe_faults(recipe, stored, elsewhere)))
    model = {"target_modules": stored.layers, "head": stored.saved}
    method = MethodSettings(name="lora", size=1, learning_rate=recipe.method.learning_rate)
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=model), "method": method})


def _recipe_faults(recipe: Recipe, stored: Stored, elsewhere: bool) -> Iterator[str]:
    name, revision = base_name(recipe.model)
    own, at = stored.config.get("base_model_name_or_path"), stored.config.get("revision")
    if own and not elsewhere and not _same_place(str(own), name):
        yield (
            f"model.name is {name}, and the adapter was trained on {own}; where both are the same model, say so with "
            f"--model {recipe.model.name}"
        )
    if at and revision and at != revision and not elsewhere:
        yield f"model.revision is {revision}, and the adapter was trained on {at}; change the recipe's"
    said = recipe.model.target_modules if recipe.method.targets is None else recipe.method.targets
    field = "model.target_modules" if recipe.method.targets is None else "method.targets"
    if said is not None and said != "all-linear":
        known = set(matched(said, stored.layers))
        if other := [layer for layer in stored.layers if layer not in known]:
            yield f"{field} leaves out {_listed(other)}, which the adapter has; write --set {field}=null"
    head = recipe.model.head
    if head != "auto" and not _same_modules(head, stored.saved):
        yield (
            f"model.head is {', '.join(head)}, and the adapter's modules_to_save are "
            f"{', '.join(stored.saved) or 'none'}; write --set model.head=auto"
        )


def _same_place(one: str, other: str) -> bool:
    """Whether two names of a model are one: a hub id, or a folder by whatever path."""
    if one == other:
        return True
    try:
        return Path(one).is_dir() and Path(other).is_dir() and Path(one).samefile(other)
    except (OSError, ValueError):
        return False


def _same_modules(wanted: Sequence[str], found: Sequence[str]) -> bool:
    means = [{name for name in found if f".{name}".endswith(f".{end}")} for end in wanted]
    return all(means) and set().union(*means) == set(found)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _refuse(path: Path, what: str, faults: Sequence[str]) -> None:
    if faults:
        more = f" (and {len(faults) - SHOWN} faults more)" if len(faults) > SHOWN else ""
        raise UserError(f"{path} {what}: {'; '.join(faults[:SHOWN])}{more}")


def check_family(stored: Stored, context: Context) -> None:
    """Make sure that the adapter is of the recipe's task family, and that its classes are known by number.

    Args:
        stored: The adapter.
        context: Of the recipe; it is given the names of the classes, where the adapter has them.

    Raises:
        UserError: It is of another, or names other classes than the recipe.
    """
    own, wanted = stored.config.get("task_type"), context.family.peft_task_type
    if own is not None and own != wanted:
        raise UserError(
            f"{stored.folder / CONFIG}: task_type is {own}, and the recipe's task {context.recipe.task} is {wanted}; "
            "take a recipe of the task that the adapter was trained for"
        )
    given = context.recipe.data.labels
    if stored.names is None or not context.family.named_labels:
        return
    if given is not None and tuple(given) != stored.names:
        raise UserError(
            f"data.labels: the adapter was trained with the classes {_listed(stored.names)}, and the recipe names "
            f"{_listed(given)}; take that back"
        )
    context.kept_labels = list(stored.names)


def check_classes(context: Context) -> None:
    """Make sure that nobody has to guess which output is which class.

    Args:
        context: Whose data has been read.

    Raises:
        UserError: The classes have names, and nothing says which is which of the adapter's outputs.
    """
    data, names = context.recipe.data, list(context.task.names)
    known = data.labels is not None or context.kept_labels is not None
    known = known or bool(context.splits.reports[data.splits.train].names)
    if known or not context.family.named_labels or names == [str(i) for i in range(len(names))]:
        return
    raise UserError(
        f"data.labels: neither the adapter nor the data says which output of the adapter is which of the classes "
        f"{_listed(names)}; name them in the order of its training: --set 'data.labels=[{', '.join(names[:SHOWN])}"
        f"{', …' if len(names) > SHOWN else ''}]'"
    )


def check_built(stored: Stored, context: Context) -> None:
    """Make sure that every tensor of the adapter has its place in the recipe's model, before weights are loaded.

    Args:
        stored: The adapter.
        context: Of the recipe that `fitting` gave, whose data has been read.

    Raises:
        UserError: A layer is not there, a tensor has another shape, is missing or too much; or PEFT would put something
            else than a plain LoRA on a layer.
    """
    where = f"{stored.folder} does not fit {context.recipe.model.name}"
    try:
        skeleton = context.skeleton
    except UserError as error:
        if stored.saved or not context.family.new_head:
            raise
        raise UserError(f"{stored.folder} has no head of its own (modules_to_save): {error}") from error
    with torch.random.fork_rng(devices=[]):
        try:
            built = get_peft_model(without_weights(skeleton), _peft_config(stored))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{where}: PEFT makes no adapter of its {CONFIG}: {error}") from error
    for name, layer in lora_layers(built).items():
        if not isinstance(layer, Linear) or not isinstance(layer.get_base_layer(), nn.Linear | Conv1D):
            kind = type(layer.get_base_layer()).__name__
            raise UserError(f"{where}: {name} is a {kind}; only LoRA on linear layers can be decomposed")
        adapter_of(name, layer)
    _refuse(
        stored.folder / TENSORS,
        f"does not fit {context.recipe.model.name} with the recipe's head",
        [fault.replace(WRAPPED, "", 1) for fault in tensor_faults(stored.shapes, peft_shapes(cast(PeftModel, built)))],
    )


def load_stored(stored: Stored, context: Context) -> PeftModel:
    """The recipe's model with the adapter, as stock PEFT loads it: float32, what was trained requiring gradients.

    Args:
        stored: The adapter, which `check_built` has let pass.
        context: Of the recipe.

    Raises:
        UserError: It cannot be loaded, or holds values that are not finite.
    """
    base = context.model()
    with _loading(stored.folder):
        adapted = PeftModel.from_pretrained(base, stored.folder, is_trainable=True, config=_peft_config(stored))
    adapted = cast(PeftModel, adapted.float().to(context.compute.device))
    trained = {name: each for name, each in adapted.named_parameters() if each.requires_grad}
    if (name := not_finite(trained)) is not None:
        raise UserError(f"{stored.folder / TENSORS}: {name} holds values that are not finite; the adapter is of no use")
    return adapted


def _peft_config(stored: Stored) -> LoraConfig:
    """A new one each time, as PEFT changes what it is given."""
    found = cast(LoraConfig, copy.deepcopy(PeftConfig.from_pretrained(str(stored.folder))))
    found.base_model_name_or_path = None  # whatever it is called: else PEFT says that it is called otherwise here
    return found


@contextmanager
def _loading(folder: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        if is_memory(error):
            raise
        raise UserError(f"{folder} cannot be loaded ({error})") from error
