"""An adapter put into the weights of its model: a folder that transformers alone loads.

merged = merge_adapter(adapter, output, Model(name="owner/base"))
print(merged.model_class, merged.dtype, merged.notes)

W' = W + s B A for LoRA, and whatever PEFT computes for its other adapters: the merging is PEFT's own, one layer at a
time, in float32 whatever the model's precision is, so that a weight is rounded once. The files are written from the
tensors where they lie. So no more is in memory than the model, the adapter and one layer's update.

What would not load as what base and adapter compute together is refused, before anything is at its place: the written
folder is read again (without its weights) and must be exactly this model.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from autolora.adapters.base_model import DTYPES, BaseModel, load_base
from autolora.adapters.derived_card import merged_card
from autolora.adapters.faults import refuse_unmergeable
from autolora.adapters.folder import find_adapter
from autolora.adapters.output import check_output, written
from autolora.adapters.tied import innermost, settle_ties, shared_weights, tied_apart, untie
from autolora.causes import is_memory
from autolora.errors import UserError
from autolora.lora.loading import peft_shapes
from autolora.lora.stored import TENSORS, WRAPPED, Shape, read_config, read_shapes
from autolora.model.folder import model_folder
from autolora.recipe.schema import Model

SHARD = "5GB"
LOW = (torch.bfloat16, torch.float16)
# What PEFT raises where an adapter does not fit a model, or is of a kind that cannot be merged.
UNFIT = (ValueError, RuntimeError, NotImplementedError, AttributeError, LookupError, TypeError, ImportError)
# Where PEFT puts all embeddings, if there are more of them than before: as they are, or below what it puts around them.
OWN, COPY = ("", ".base_layer", ".token_adapter.base_layer", ".original_module"), ".modules_to_save"

Tokenizer = Callable[[], PreTrainedTokenizerBase | None]
Check = Callable[[BaseModel], None]


@dataclass(frozen=True)
class Merged:
    """A merged model on disk.

    Args:
        path: Its folder.
        model_class: Of transformers.
        dtype: Of its weights.
        parameters: How many it has.
        size: Of its weight files, in bytes.
        layers: How many modules the adapter has changed or replaced.
        notes: What has to be said about it.
    """

    path: Path
    model_class: str
    dtype: str
    parameters: int
    size: int
    layers: int
    notes: tuple[str, ...] = ()


def merge_adapter(
    adapter: Path,
    output: Path,
    model: Model,
    *,
    dtype: str | None = None,
    tokenizer: Tokenizer = lambda: None,
    check: Check | None = None,
    shard_size: str = SHARD,
) -> Merged:
    """Write the model that an adapter makes of its base.

    Args:
        adapter: The adapter's folder, in PEFT's format.
        output: The folder for the merged model; it is made, or replaced where this function has made it.
        model: The base model.
        dtype: float32, bfloat16 or float16; None: the base model's.
        tokenizer: Gives the one that goes along; None where there is none.
        check: Called with the base model before the adapter is put on it; may raise.
        shard_size: How large one weight file may be, as transformers has it.

    Raises:
        UserError: The adapter cannot be merged, does not fit the model, or the folder cannot be written to.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"dtype: {dtype!r} is not one of: {', '.join(DTYPES)}")
    adapter = find_adapter(adapter)
    config, shapes = read_config(adapter), read_shapes(adapter)
    refuse_unmergeable(adapter, config)
    check_output(output, adapter, model_folder(model.name, model.revision))
    base = load_base(adapter, config, shapes, model, dtype)
    if check is not None:
        check(base)
    own_tokenizer = tokenizer()
    merged, layers, notes = _merged(base.model, adapter, shapes, DTYPES[dtype] if dtype else None)
    record = {"base_model": model.name, "revision": model.revision, "adapter": str(adapter.absolute())}
    with written(output, record) as fresh:
        merged.save_pretrained(fresh, max_shard_size=shard_size)
        if own_tokenizer is not None:
            own_tokenizer.save_pretrained(fresh)
        _check_written(fresh, merged)
        merged_card(adapter, fresh, str(merged.dtype)[6:])
        size = sum(file.stat().st_size for file in fresh.glob("*.safetensors"))
    if own_tokenizer is None:
        notes = [*notes, "neither the adapter nor the base model has a tokenizer, so none goes along"]
    notes = [*base.notes, *notes]
    count = sum(parameter.numel() for parameter in merged.parameters())
    return Merged(output, type(merged).__name__, str(merged.dtype)[6:], count, size, layers, tuple(notes))


@torch.no_grad()
def _merged(
    model: PreTrainedModel, adapter: Path, shapes: Mapping[str, Shape], dtype: torch.dtype | None
) -> tuple[PreTrainedModel, int, list[str]]:
    """The model with the adapter in it, how many modules it is in, and what has to be said."""
    groups, tied = shared_weights(model), bool(getattr(model.config, "tie_word_embeddings", False))
    with _explained(adapter, type(model).__name__):
        _resize(model, shapes)
        precision = {name: parameter.dtype for name, parameter in model.named_parameters(remove_duplicate=False)}
        adapted = _adapted(model, adapter, shapes)
        layers = merge_layers(adapted, groups)
        merged: PreTrainedModel = adapted.merge_and_unload()
    note = settle_ties(merged, groups, tied)
    for name, parameter in merged.named_parameters(remove_duplicate=False):
        parameter.data = parameter.data.to(dtype or precision[name]).contiguous()
    if dtype is not None:
        merged.config.dtype = dtype
    return merged, layers, [note] if note else []


def _resize(model: PreTrainedModel, shapes: Mapping[str, Shape]) -> None:
    """As many embeddings as the adapter has, which brings all of them where tokens were added."""
    embeddings: Any = model.get_input_embeddings()
    stored = _stored(model, embeddings, shapes)
    if stored is None or stored[0] == embeddings.weight.shape[0]:
        return
    model.resize_token_embeddings(stored[0], mean_resizing=False)
    output: Any = model.get_output_embeddings()
    if output is None or output.weight is model.get_input_embeddings().weight:
        return
    if _stored(model, output, shapes) is None:  # PEFT leaves it out where the input embeddings alone are adapted
        raise UserError(
            f"the adapter has {stored[0]} embeddings, more than the model, and the rows of {_name(model, output)} for "
            "the added tokens are in no file, so how likely the model finds these is not known; train and save the "
            'adapter together with the output embeddings (modules_to_save=["lm_head"])'
        )


def _stored(model: PreTrainedModel, module: nn.Module, shapes: Mapping[str, Shape]) -> Shape | None:
    """The shape of a module's whole weight in the adapter's file, if it is there."""
    name = _name(model, module)
    found = (shapes.get(f"{WRAPPED}{name}{inner}.weight") for inner in (*OWN, COPY))
    return next((shape for shape in found if shape is not None), None)


def _name(model: PreTrainedModel, module: nn.Module) -> str:
    modules: dict[str, nn.Module] = dict(model.named_modules())
    return next(name for name, each in modules.items() if each is module)


def _adapted(model: PreTrainedModel, adapter: Path, shapes: Mapping[str, Shape]) -> PeftModel:
    """The model with the adapter on it; every tensor of the adapter has its place, and every place its tensor."""
    adapted = PeftModel.from_pretrained(model, adapter, torch_device="cpu")
    found = adapted.load_adapter(str(adapter), "default", torch_device="cpu")  # again, for what it tells
    lacking = [name for name in peft_shapes(adapted) if ".lora_" not in name and name not in shapes]
    unexpected = [name for name in found.unexpected_keys if not _is_copy(name, adapter, shapes)]
    for what, names in (("has no place in the model", unexpected), ("is not in its file", lacking)):
        if names:
            raise UserError(f"{adapter} does not fit {type(model).__name__}: {sorted(names)[0]} {what}")
    if found.missing_keys:
        raise UserError(f"{adapter} lacks weights: {sorted(found.missing_keys)[0]} is not in its file")
    return adapted


def _is_copy(name: str, adapter: Path, shapes: Mapping[str, Shape]) -> bool:
    """Whether a tensor of the file is there a second time: what is trained in full, of a vocabulary that has grown."""
    module, found, rest = name.rpartition(f"{COPY}.")
    twin = f"{module}.{rest}"
    if not found or twin not in shapes:
        return False
    with safe_open(adapter / TENSORS, "pt") as file:
        return torch.equal(file.get_tensor(name), file.get_tensor(twin))


def merge_layers(adapted: PeftModel, groups: list[list[str]] | None = None) -> int:
    """Merge an adapter in place, layer by layer, in float32; PEFT's modules stay where they are.

    Args:
        adapted: With the adapter's weights in it.
        groups: Names of the parameters that are one; None: there are none.

    Returns:
        How many modules have been changed, those that were trained in full among them.
    """
    untie(adapted, groups or [])
    tuner: Any = adapted.base_model
    tuner._check_merge_allowed()
    count = sum(hasattr(module, "modules_to_save") for module in adapted.modules() if _wraps(module))
    for module in adapted.modules():
        if isinstance(module, BaseTunerLayer) and hasattr(module, "merge"):
            with _in_float32(innermost(module)):
                module.merge(safe_merge=True)
            count += 1
    return count


def _wraps(module: nn.Module) -> bool:
    return type(module).__name__ == "ModulesToSaveWrapper"


@contextmanager
def _in_float32(layer: nn.Module) -> Iterator[None]:
    """A layer of lower precision in float32, and back."""
    before = {name: parameter.dtype for name, parameter in layer.named_parameters() if parameter.dtype in LOW}
    for name in before:
        parameter = layer.get_parameter(name)
        parameter.data = parameter.data.float()
    yield
    for name, dtype in before.items():
        parameter = layer.get_parameter(name)
        parameter.data = parameter.data.to(dtype)


@contextmanager
def _explained(adapter: Path, model_class: str) -> Iterator[None]:
    """PEFT's own words where it cannot put an adapter on a model, or merge it; its warnings are looked at here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UNFIT as error:
        if is_memory(error):
            raise
        said = " ".join(str(error).split())[:300] or type(error).__name__
        said = f"{said} is missing" if isinstance(error, KeyError) else said
        raise UserError(f"{adapter} cannot be merged into {model_class}: {said}") from error


def _check_written(folder: Path, merged: PreTrainedModel) -> None:
    """Make sure that transformers makes exactly this model of a folder."""
    loader: Any = type(merged)
    loaded, report = loader.from_pretrained(folder, device_map="meta", output_loading_info=True)
    wrong = [*report["missing_keys"], *report["unexpected_keys"], *(name for name, *_ in report["mismatched_keys"])]
    if wrong:
        raise UserError(f"the merged {type(merged).__name__} would not load as it is: {sorted(wrong)[0]} differs")
    ties: dict[str, Any] = getattr(loaded, "all_tied_weights_keys", None) or {}
    if apart := tied_apart(merged, ties):
        raise UserError(
            f"{type(merged).__name__} always shares {apart[0]} with {ties[apart[0]]}, and the adapter changes one of "
            "the two only; it cannot be merged"
        )
