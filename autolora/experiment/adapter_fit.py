"""A stored adapter held against the recipe that it is to be measured by, and loaded.

    stored = read_stored(Path("my-adapter"))          # from PEFT, a Trainer, or a run
    context = Context(fitting(recipe, stored))        # whose layers and head are the adapter's
    check_family(stored, context)
    check_classes(context)
    check_built(stored, context)                      # every tensor, before any weight is loaded
    adapted = load_stored(stored, context)            # as stock PEFT loads it, in float32

What does not fit is refused by name.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

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
from autolora.experiment.stored_adapter import SHOWN, Stored, listed, refuse
from autolora.lora.adapter import lora_layers
from autolora.lora.config import matched
from autolora.lora.exact import without_weights
from autolora.lora.frozen import widen_rest
from autolora.lora.loading import peft_shapes
from autolora.lora.stored import CONFIG, TENSORS, WRAPPED, tensor_faults
from autolora.model.load import base_name
from autolora.planted.kinds import seeded
from autolora.recipe.schema import MethodSettings, Recipe
from autolora.training.finite import not_finite


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
    refuse(stored.folder, f"does not fit the recipe {recipe.name}", list(_recipe_faults(recipe, stored, elsewhere)))
    model = {"target_modules": stored.layers, "head": stored.saved}
    method = MethodSettings(name="lora", size=1, learning_rate=recipe.method.learning_rate)
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=model), "method": method})


def _recipe_faults(recipe: Recipe, stored: Stored, elsewhere: bool) -> Iterator[str]:
    name, revision = base_name(seeded(recipe.model, recipe.seed))
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
            yield f"{field} leaves out {listed(other)}, which the adapter has; write --set {field}=null"
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
            f"data.labels: the adapter was trained with the classes {listed(stored.names)}, and the recipe names "
            f"{listed(given)}; take that back"
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
        f"{listed(names)}; name them in the order of its training: --set 'data.labels=[{', '.join(names[:SHOWN])}"
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
            raise UserError(f"{where}: {name} is no linear layer ({kind}), and LoRA on others is not decomposed")
        adapter_of(name, layer)
    refuse(
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
    widen_rest(adapted)
    adapted.to(context.compute.device)
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
