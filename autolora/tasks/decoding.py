"""Text decoded as the recipe says, and as nothing else does: ``decode(model, inputs, settings, tokenizer)``.

The cache of keys and values has no bearing on what is said: in float32 the three of them give the same outputs.

A model's folder may have a ``generation_config.json``: a repetition penalty, a least length, words that are forced or
forbidden, sampling. transformers fills in from it whatever a call leaves open, so it is out of the way while decoding.
What a model cannot begin a decoder without, an encoder-decoder's first token, is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from autolora.recipe.schema import Decoding
from autolora.tasks.ends import StopAt, cut, end_tokens, stop_texts

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

STRUCTURE = ("decoder_start_token_id", "is_encoder_decoder")


def decode(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    settings: Decoding,
    tokenizer: PreTrainedTokenizerBase,
    ends: Sequence[int] = (),
) -> list[str]:
    """The texts that a model says to a batch, without special tokens, each up to where a text of `stop` begins.

    Args:
        model: Transformers', or PEFT's around it, in evaluation mode.
        inputs: "input_ids" and "attention_mask", padded on the left for a decoder.
        settings: The recipe's.
        tokenizer: The model's, which says where an output ends.
        ends: More tokens that end one.

    Raises:
        RunError: Decoding with a paged cache failed.
    """
    ids = end_tokens(tokenizer, settings.stop, ends)
    outputs = (_paged if settings.cache == "paged" else _generated)(model, inputs, settings, tokenizer, ids)
    rows = outputs if isinstance(outputs, list) else outputs.tolist()
    texts = tokenizer.batch_decode([_before(row, ids) for row in rows], skip_special_tokens=True)
    stop = stop_texts(tokenizer, settings.stop)
    return [cut(text, stop) for text in texts]


def _before(output: list[int], ends: Sequence[int]) -> list[int]:
    """An output up to the first token that ends it, which need not be one that decoding leaves out."""
    return output[: next((i for i, token in enumerate(output) if token in ends), len(output))]


def _generated(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    settings: Decoding,
    tokenizer: PreTrainedTokenizerBase,
    ends: Sequence[int],
) -> Tensor:
    """The token ids of the outputs, (examples, positions)."""
    from autolora.tasks.repetition import NoRepetition

    generate = cast("Callable[..., Tensor]", model.generate)
    encoder_decoder = inner_model(model).config.is_encoder_decoder  # its input is not part of the output
    begin = 1 if encoder_decoder else inputs["input_ids"].shape[1]  # the first is the start token
    size, more = settings.no_repeat_ngram, dict[str, Any]()
    if size and not encoder_decoder:
        more["logits_processor"] = [NoRepetition(size, (inputs["attention_mask"] == 0).sum(1).tolist())]
        size = 0
    if stop := stop_texts(tokenizer, settings.stop):
        more["stopping_criteria"] = [StopAt(stop, tokenizer, begin)]
    if settings.cache == "static":
        more |= {"cache_implementation": "static", "disable_compile": True}
    with _bare(model):
        output = generate(
            **inputs,
            do_sample=False,
            num_beams=settings.beams,
            length_penalty=settings.length_penalty,
            no_repeat_ngram_size=size,
            max_new_tokens=settings.max_new_tokens,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=ends[0] if len(ends) == 1 else list(ends),
            **more,
        )
    return output[:, begin:]


def _paged(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    settings: Decoding,
    tokenizer: PreTrainedTokenizerBase,
    ends: Sequence[int],
) -> list[list[int]]:
    from autolora.tasks.paged import paged_outputs

    given = zip(inputs["input_ids"], inputs["attention_mask"].bool(), strict=True)
    prompts = [ids[mask].tolist() for ids, mask in given]
    with _bare(model):
        return paged_outputs(
            inner_model(model),
            prompts,
            new_tokens=settings.max_new_tokens,
            ends=ends,
            padding=int(tokenizer.pad_token_id),
        )


def cache_fault(model: Any, settings: Decoding) -> str:
    """Why a model cannot decode with the cache that the recipe names; "" where it can.

    Args:
        model: Transformers', with weights or without.
        settings: The recipe's.
    """
    kind, said = type(model).__name__, f"eval.generation.cache: {settings.cache}: "
    if settings.cache == "dynamic":
        return ""
    if getattr(model, "_is_stateful", False):
        return f"{said}{kind} keeps a state instead of keys and values; set it to dynamic"
    if settings.cache == "paged" and model.config.is_encoder_decoder:
        return f"{said}{kind} is an encoder-decoder, and continuous batching is for decoders; set it to dynamic"
    if settings.cache == "paged" and not (hasattr(model, "generate_batch") and model._supports_attention_backend):
        return f"{said}the attention of {kind} cannot read pages in this version of transformers; set it to dynamic"
    return ""


def inner_model(model: Any) -> Any:
    """Transformers' model, whether PEFT is around it or not."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def _bare(model: Any) -> Iterator[None]:
    """The model without what its folder says about decoding."""
    from transformers import GenerationConfig

    inner = inner_model(model)
    own, wrapper = inner.generation_config, getattr(model, "generation_config", None)
    # The config first, by which it was trained.
    found = {name: [getattr(inner.config, name, None), getattr(own, name, None)] for name in STRUCTURE}
    kept = {name: next((v for v in values if v is not None), None) for name, values in found.items()}
    bare = GenerationConfig(**{name: value for name, value in kept.items() if value is not None})
    inner.generation_config = bare
    if model is not inner:
        model.generation_config = bare
    try:
        yield
    finally:
        inner.generation_config = own
        if model is not inner:
            model.generation_config = wrapper
