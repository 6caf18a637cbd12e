"""Text decoded as the recipe says, and as nothing else does: ``decode(model, inputs, settings, tokenizer)``.

A model's folder may have a ``generation_config.json``: a repetition penalty, a least length, words that are forced or
forbidden, sampling. transformers fills in from it whatever a call leaves open, so it is out of the way while decoding.
What a model cannot begin a decoder without, an encoder-decoder's first token, is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from autolora.recipe.schema import Decoding

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
) -> Tensor:
    """The token ids that a model generates, (examples, positions).

    Args:
        model: Transformers', or PEFT's around it, in evaluation mode.
        inputs: "input_ids" and "attention_mask".
        settings: The recipe's.
        tokenizer: The model's, which says where an output ends.
        ends: Ids of more tokens that end one.
    """
    from autolora.tasks.repetition import NoRepetition

    generate = cast("Callable[..., Tensor]", model.generate)
    size, more = settings.no_repeat_ngram, {}
    if size and not inner_model(model).config.is_encoder_decoder:  # its input is not part of the output
        more["logits_processor"] = [NoRepetition(size, (inputs["attention_mask"] == 0).sum(1).tolist())]
        size = 0
    with _bare(model):
        return generate(
            **inputs,
            do_sample=False,
            num_beams=settings.beams,
            length_penalty=settings.length_penalty,
            no_repeat_ngram_size=size,
            max_new_tokens=settings.max_new_tokens,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=list(dict.fromkeys((tokenizer.eos_token_id, *ends))) if ends else tokenizer.eos_token_id,
            **more,
        )


def inner_model(model: Any) -> Any:
    """Transformers' model, whether PEFT is around it or not."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def _bare(model: Any) -> Iterator[None]:
    """The model without what its folder says about decoding."""
    from transformers import GenerationConfig

    inner = inner_model(model)
    own, wrapper = inner.generation_config, getattr(model, "generation_config", None)
    found = {name: [getattr(own, name, None), getattr(inner.config, name, None)] for name in STRUCTURE}
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
