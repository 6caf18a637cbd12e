"""Load a pretrained model and its tokenizer: from the hub, a local directory, or an installed package.

The base of a planted truth is made from its seed at every load.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from autolora.errors import UserError
from autolora.model.bundled import bundled
from autolora.model.complete import Loading, check_complete
from autolora.model.heads import output_layer, settle_head
from autolora.model.kept import FLOAT32, HeadOf, Kept, reference_of, set_reference
from autolora.model.opening import gguf_option, opened
from autolora.recipe.schema import Model
from autolora.training.recompute import recompute_layers
from autolora.training.sharding import whole_tensor

CPU = torch.device("cpu")


def base_name(model: Model) -> tuple[str, str | None]:
    """The model's name and revision as an adapter should carry them: a bundled model by its hub id.

    Args:
        model: The recipe's model section.
    """
    known = bundled(model.name)
    return (known.hub, None) if known else (model.name, model.revision)


def load_tokenizer(model: Model, **options: Any) -> PreTrainedTokenizerBase:
    """The model's tokenizer, padding on the right. One without a padding token pads with its end-of-sequence token.

    Args:
        model: The recipe's model section.
        options: Of transformers' `from_pretrained`.

    Raises:
        UserError: It cannot be loaded, or has nothing to pad with.
    """
    with opened(model, direct=bool(options)) as found:  # what is asked of it enters its making from a GGUF file
        tokenizer = AutoTokenizer.from_pretrained(
            found.place, trust_remote_code=model.trust_remote_code, **found.options, **options
        )
        found.as_named(tokenizer)
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise UserError(
                f"{model.name}: the tokenizer has neither a padding nor an end-of-sequence token to pad with"
            )
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def is_encoder_decoder(model: Model) -> bool:
    """Whether the model has an encoder and a decoder, as T5 has; its weights are not loaded.

    Args:
        model: The recipe's model section.

    Raises:
        UserError: Its configuration cannot be loaded.
    """
    if gguf_option(model.name):
        return False  # GGUF files hold decoders
    with opened(model) as found:
        config = AutoConfig.from_pretrained(found.place, trust_remote_code=model.trust_remote_code, **found.options)
    return bool(config.is_encoder_decoder)


@dataclass(frozen=True)
class Loaded:
    """A pretrained model with its task head, in float32 on the CPU where nothing else was asked for.

    Args:
        model: The model.
        drawn: Names of the parameters that are not the checkpoint's but drawn at random, all of them in the head.
        remark: What became of the checkpoint's own head, where that needs to be said; else "".
    """

    model: PreTrainedModel
    drawn: frozenset[str]
    remark: str


def load_model(
    model: Model,
    auto_class: str,
    head_config: dict[str, Any],
    pad_token_id: int | None,
    head: HeadOf,
    kept: Kept = FLOAT32,
    device: torch.device = CPU,
) -> Loaded:
    """The pretrained model with a new task head, drawn from torch's generator; nothing else is drawn.

    Args:
        model: The recipe's model section.
        auto_class: Of transformers, such as "AutoModelForSequenceClassification".
        head_config: Of the task's head, see `Task.head_config`.
        pad_token_id: The tokenizer's, by which models find the last token of a padded text.
        head: Gives the full names of a model's modules that are trained in full.
        kept: How the frozen base is kept.
        device: Where a quantised base is to be; others are on the CPU.

    Raises:
        UserError: It cannot be loaded, or lacks something that is not trained.
    """
    options = kept.options(partial(load_skeleton, model, auto_class, head_config, head), head, device)
    options |= attention(model)
    loaded, loading = _load(model, auto_class, head_config, kept.while_loading(head), **options)
    kept.settle(loaded, head)
    if model.gradient_checkpointing:
        recompute_layers(loaded)
    if not kept.exact:
        set_reference(loaded, partial(_as_stored, model, auto_class, head_config, loading.drawn))
    trained = head(loaded)
    check_complete(loaded, loading, trained, model.name)
    # After the model is built: RoBERTa counts its positions from the padding id that it is built with.
    for config in (loaded.config, loaded.config.get_text_config()):
        config.pad_token_id = pad_token_id
    anew, remark = _settled_head(model, loaded, loading, head_config, trained)
    return Loaded(loaded, loading.drawn | anew, remark)


def attention(model: Model) -> dict[str, str]:
    """What `from_pretrained` has to be told of the attention's implementation.

    Args:
        model: The recipe's model section.
    """
    return {} if model.attn_implementation == "auto" else {"attn_implementation": model.attn_implementation}


def _as_stored(
    model: Model, auto_class: str, head_config: dict[str, Any], drawn: Collection[str], loaded: nn.Module
) -> dict[str, torch.Tensor]:
    """The state of a model as its checkpoint has it, with what was drawn; the files are read again."""
    with torch.random.fork_rng(devices=[]):
        whole, _ = _load(model, auto_class, head_config, dtype="auto")
    state: dict[str, torch.Tensor] = whole.state_dict()
    return state | {name: tensor for name, tensor in loaded.state_dict().items() if name in drawn}


def _load(
    model: Model,
    auto_class: str,
    head_config: dict[str, Any],
    inside: AbstractContextManager[None] | None = None,
    **options: Any,
) -> tuple[PreTrainedModel, Loading]:
    """The model as transformers loads it, in float32, and what became of the checkpoint's tensors.

    What it is loaded inside of begins once the place is settled, and has no say in how a GGUF file is converted.
    """
    with opened(model) as found, inside or nullcontext():
        loaded, report = getattr(transformers, auto_class).from_pretrained(
            found.place,
            trust_remote_code=model.trust_remote_code,
            ignore_mismatched_sizes=True,  # a classification checkpoint with another number of labels
            output_loading_info=True,
            **{"dtype": torch.float32, **options},
            **found.options,
            **head_config,
        )
    found.as_named(loaded)  # not the folder that a planted one lay in for a moment
    return loaded, Loading.of(loaded, report)


def _settled_head(
    model: Model, loaded: PreTrainedModel, loading: Loading, head_config: dict[str, Any], trained: Sequence[str]
) -> tuple[frozenset[str], str]:
    """See `settle_head`; a head for another number of classes is drawn anew by transformers already."""
    if loading.mismatched:
        layers = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in sorted(loading.mismatched)))
        return frozenset(), f"the checkpoint's own head is for another number of classes; {layers} is drawn anew"
    if "id2label" not in head_config:
        return frozenset(), ""
    names = list(head_config["id2label"].values())
    anew, remark = settle_head(loaded, own_label_names(model), names, loading.drawn)
    layer = output_layer(loaded, len(names))
    if remark and not any(f"{layer}.".startswith(f"{name}.") for name in trained):
        raise UserError(f"model.head: {remark}, and is not trained; add it: [{', '.join([*trained, str(layer)])}]")
    return anew, remark


def own_label_names(model: Model) -> dict[int, str] | None:
    """The names of the classes that the checkpoint's own configuration has; None where it has none.

    Args:
        model: The recipe's model section.

    Raises:
        UserError: Its configuration cannot be loaded.
    """
    with opened(model) as found:
        content, _ = PreTrainedConfig.get_config_dict(
            found.place, trust_remote_code=model.trust_remote_code, **found.options
        )
    own = content.get("id2label")
    return {int(i): str(name) for i, name in own.items()} if own else None


def load_skeleton(
    model: Model, auto_class: str, head_config: dict[str, Any], head: Callable[[PreTrainedModel], Sequence[str]]
) -> PreTrainedModel:
    """The model without its weights, on torch's meta device: its configuration and its modules' shapes.

    It takes no memory and little time, and its checkpoint is looked at as that of `load_model`; but GGUF files, which
    are read in full or not at all, and models that bring their own code, are built from their configuration only.

    Args:
        model: The recipe's model section.
        auto_class: Of transformers.
        head_config: Of the task's head.
        head: Gives the full names of a model's modules that are trained in full.

    Raises:
        UserError: There is no such model, none can be made of its configuration, or its checkpoint does not fill it.
    """
    if not gguf_option(model.name) and not model.trust_remote_code:
        loaded, loading = _load(model, auto_class, head_config, None, device_map="meta", **attention(model))
        check_complete(loaded, loading, head(loaded), model.name)
        return loaded
    options = {"trust_remote_code": model.trust_remote_code}
    with opened(model) as found:
        config = AutoConfig.from_pretrained(found.place, **options, **found.options)
        config.name_or_path = found.name
        with torch.device("meta"):
            made: PreTrainedModel = getattr(transformers, auto_class).from_config(config, **options)
    return made


def weights_hash(model: PreTrainedModel, leave_out: Collection[str]) -> str:
    """SHA-256 over the names of the parameters and their bytes in float32, as they are on disk.

    Args:
        model: On any device, however it is kept.
        leave_out: Full names of (newly drawn) modules and parameters.
    """
    reference = reference_of(model)
    digest = hashlib.sha256()
    for name, tensor in sorted((reference(model) if reference else model.state_dict()).items()):
        if not any(name == drawn or name.startswith(drawn + ".") for drawn in leave_out):
            digest.update(name.encode())
            digest.update(_wide(whole_tensor(tensor.detach()).cpu()).contiguous().numpy().tobytes())
    return digest.hexdigest()


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
