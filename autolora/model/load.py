"""Load a pretrained model and its tokenizer: from the hub, a local directory, or an installed package."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pickle import UnpicklingError
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from autolora.errors import UserError
from autolora.model.explain import loading_error
from autolora.model.inspect import bundled, bundled_folder
from autolora.recipe.schema import Model


def source(name: str) -> str:
    """What transformers loads for a recipe's `model.name`: a hub id or a local directory.

    Args:
        name: As the recipe has it, ``bundled:…`` among others.

    Raises:
        UserError: The package with a bundled model is not installed.
    """
    if not name.startswith("bundled:"):
        return name
    return str(bundled_folder(name.removeprefix("bundled:")))


def base_name(model: Model) -> tuple[str, str | None]:
    """The model's name and revision as an adapter should carry them: a bundled model by its hub id.

    Args:
        model: The recipe's model section.
    """
    known = bundled(model.name)
    return (known.hub, None) if known else (model.name, model.revision)


def _weight_file(name: str) -> dict[str, str]:
    """What transformers has to be told of a bundled GGUF model, which it de-quantises."""
    known = bundled(name)
    return {"gguf_file": known.gguf} if known and known.gguf else {}


def load_tokenizer(model: Model, **options: Any) -> PreTrainedTokenizerBase:
    """The model's tokenizer, padding on the right. One without a padding token pads with its end-of-sequence token.

    Args:
        model: The recipe's model section.
        options: Of transformers' `from_pretrained`.

    Raises:
        UserError: It cannot be loaded, or has nothing to pad with.
    """
    with _explained(model), _quiet():
        tokenizer = AutoTokenizer.from_pretrained(
            source(model.name),
            revision=model.revision,
            trust_remote_code=model.trust_remote_code,
            **_weight_file(model.name),
            **options,
        )
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
    if _weight_file(model.name):
        return False  # GGUF files hold decoders, and take seconds to read
    with _explained(model), _quiet():
        config = AutoConfig.from_pretrained(
            source(model.name), revision=model.revision, trust_remote_code=model.trust_remote_code
        )
    return bool(config.is_encoder_decoder)


def load_model(model: Model, auto_class: str, head_config: dict[str, Any], pad_token_id: int | None) -> PreTrainedModel:
    """The pretrained model in float32 with a new task head, drawn from torch's generator, on the CPU.

    Args:
        model: The recipe's model section.
        auto_class: Of transformers, such as "AutoModelForSequenceClassification".
        head_config: Of the task's head, see `Task.head_config`.
        pad_token_id: The tokenizer's, by which models find the last token of a padded text.

    Raises:
        UserError: It cannot be loaded.
    """
    with _explained(model), _quiet():
        loaded: PreTrainedModel = getattr(transformers, auto_class).from_pretrained(
            source(model.name),
            revision=model.revision,
            trust_remote_code=model.trust_remote_code,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # a classification checkpoint with another number of labels
            **_weight_file(model.name),
            **head_config,
        )
    # After the model is built: RoBERTa counts its positions from the padding id that it is built with.
    for config in (loaded.config, loaded.config.get_text_config()):
        config.pad_token_id = pad_token_id
    return loaded


def check_length(model: PreTrainedModel, longest: int) -> None:
    """Make sure that the model has a position for every token.

    Args:
        model: With its embeddings in place.
        longest: Tokens of the longest sequence.

    Raises:
        UserError: There are fewer positions.
    """
    limit = getattr(model.config, "max_position_embeddings", None)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            limit = module.num_embeddings - module.padding_idx - 1  # RoBERTa counts its positions from there
    if limit is not None and 0 < limit < longest:  # XLNet, which has no maximum, says -1
        raise UserError(
            f"data.max_length: sequences of {longest} tokens (with generated ones, where there are such) are longer "
            f"than the model's maximum of {limit}; lower data.max_length or eval.generation.max_new_tokens"
        )


def weights_hash(model: PreTrainedModel, leave_out: list[str]) -> str:
    """SHA-256 over the names and bytes of the parameters.

    Args:
        model: On any device.
        leave_out: Full names of (newly drawn) modules.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not any(name.startswith(prefix + ".") for prefix in leave_out):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _explained(model: Model) -> Iterator[None]:
    """Loading errors as one message that says what would have been fetched."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, ImportError, EOFError, UnpicklingError, SafetensorError) as error:
        raise loading_error(model, error) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's load report (a new task head is what is wanted here) and its progress bars."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()):  # the bar of a GGUF file asks nobody
            yield
    finally:
        transformers.logging.set_verbosity(level)
