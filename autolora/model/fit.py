"""Whether a loaded model fits what it is given and what is asked of it, each fault as one message.

    faults = [*input_faults(model, examples, pad, longest), *behaviour_faults(model, examples, pad, decodes=False)]

One short forward pass shows what no configuration says: whether a model sees tokens that come later, and whether
padding changes what it says.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from autolora.errors import UserError
from autolora.model.packed import packed_inputs

LOOKED_AT = 2000  # examples whose token types are looked at: they come from the tokenizer's templates
PASSED = 32  # tokens of the forward pass, at most
PADDING = 3
LATER, PADDED = 1e-5, 1e-3  # relative differences of logits: rounding is below, a model that looks is above


def input_faults(model: PreTrainedModel, examples: Sequence[Mapping[str, Any]], pad: int, longest: int) -> list[str]:
    """What the model has no place for: tokens, positions, token types.

    Args:
        model: With its embeddings in place.
        examples: With "input_ids", and perhaps "token_type_ids" and "output_ids".
        pad: The tokenizer's padding id.
        longest: Tokens of the longest sequence.
    """
    faults = [*_adapter_faults(model), *_token_faults(model, examples, pad), *_type_faults(model, examples)]
    try:
        check_length(model, longest)
    except UserError as error:
        faults.append(str(error))
    return faults


def unknown_faults(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is wrong with a tokenizer that knows none of the data's tokens: its files are missing, most likely.

    Args:
        tokenizer: The model's.
        examples: With "input_ids".
    """
    special, unknown = set(tokenizer.all_special_ids), tokenizer.unk_token_id
    texts = {id for example in examples[:LOOKED_AT] for id in example["input_ids"]}
    if unknown is not None and unknown in texts and texts <= special:
        yield (
            f"model.name: the tokenizer knows no token of the data, all are {tokenizer.unk_token}; put the files of "
            "the model's tokenizer (tokenizer.json, tokenizer_config.json) into its folder"
        )


def _token_faults(model: PreTrainedModel, examples: Sequence[Mapping[str, Any]], pad: int) -> Iterator[str]:
    embeddings: Any = model.get_input_embeddings()
    rows = len(embeddings.weight)
    lists = (example[key] for example in examples for key in ("input_ids", "output_ids") if key in example)
    largest = max((pad, *(max(ids, default=0) for ids in lists)))
    if largest >= rows:
        what = "its padding token's" if largest == pad else "the largest in the data"
        yield (
            f"model.name: the tokenizer gives the token id {largest} ({what}), and the model has embeddings for "
            f"{rows} tokens (0 to {rows - 1}); take the tokenizer that belongs to the model, or enlarge the model's "
            "embeddings (resize_token_embeddings) and save it"
        )


def _adapter_faults(model: PreTrainedModel) -> Iterator[str]:
    """Transformers takes an adapter for its base model with the adapter on, and says nothing."""
    if getattr(model, "_hf_peft_config_loaded", False):
        yield "model.name: it is a LoRA adapter, not a model; write the name of the model that it was trained on"


def _type_faults(model: nn.Module, examples: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    embeddings = [m for n, m in model.named_modules() if n.endswith("token_type_embeddings")]
    if not embeddings or not isinstance(embeddings[0], nn.Embedding) or "token_type_ids" not in examples[0]:
        return
    largest = max(max(example["token_type_ids"], default=0) for example in examples[:LOOKED_AT])
    if largest >= (types := embeddings[0].num_embeddings):
        yield (
            f"model.name: the tokenizer gives token types up to {largest}, and the model knows {types} (0 to "
            f"{types - 1}); take the tokenizer that belongs to the model, or take token_type_ids out of the "
            "model_input_names in its tokenizer_config.json"
        )


def behaviour_faults(
    model: PreTrainedModel, examples: Sequence[Mapping[str, Any]], pad: int, *, decodes: bool
) -> list[str]:
    """What a forward pass shows: a generator that sees later tokens; logits that depend on the padding.

    Args:
        model: In any mode, which it keeps. Nothing is drawn from torch's generator.
        examples: With "input_ids", all of which have an embedding; a short one is taken, whole.
        pad: The tokenizer's padding id.
        decodes: Whether text is generated token by token.
    """
    if model.config.is_encoder_decoder and decodes:  # its encoder may see all of the input
        return list(_start_faults(model))
    ids = min((list(example["input_ids"]) for example in examples[:LOOKED_AT]), key=lambda ids: (not ids, len(ids)))
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng():
            return [*(_later_faults(model, ids) if decodes else ()), *_padding_faults(model, ids, pad, decodes=decodes)]
    finally:
        for module, mode in modes.items():
            module.training = mode


def packing_faults(model: PreTrainedModel, examples: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether examples that share a row, told apart by their positions, are the same to a model as alone.

    Args:
        model: In any mode, which it keeps.
        examples: With "input_ids", all of which have an embedding.
    """
    pair = [list(example["input_ids"])[:PASSED] for example in (examples[0], examples[-1])]
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng():
            together = _packed_logits(model, [pair, pair[::-1]])
            alone = [_packed_logits(model, [[ids]])[0] for ids in pair]
    finally:
        for module, mode in modes.items():
            module.training = mode
    rows = [torch.cat(alone), torch.cat(alone[::-1])]
    if not any(_differ(row, found, PADDED) for row, found in zip(rows, together, strict=True)):
        return []
    return [
        f"data.packing: to {type(model).__name__} examples that share a row are not what they are alone: it sees the "
        "one before, or takes no positions; set data.packing to false"
    ]


def _packed_logits(model: PreTrainedModel, rows: Sequence[Sequence[Sequence[int]]]) -> Tensor:
    """(rows, positions, vocabulary) of sequences that share rows of one length."""
    ids = torch.tensor([[id for sequence in row for id in sequence] for row in rows], device=model.device)
    places = [[place for sequence in row for place in range(len(sequence))] for row in rows]
    inputs = packed_inputs(ids, torch.tensor(places, device=model.device))
    if "position_ids" not in inspect.signature(model.forward).parameters:
        del inputs["position_ids"]
    logits: Tensor = model(**inputs).logits
    return logits.float()


def _start_faults(model: PreTrainedModel) -> Iterator[str]:
    if getattr(model.config, "decoder_start_token_id", None) is None:
        yield (
            f"model.name: {type(model).__name__} does not say which token its decoder begins with; write "
            "decoder_start_token_id into its config.json"
        )


def _later_faults(model: PreTrainedModel, ids: Sequence[int]) -> Iterator[str]:
    first = [*ids[:PASSED]]
    other = next((i for i in (*first, 0, 1) if i != first[-1]), 0)
    if len(first) < 2:
        return
    logits = _logits(model, [first, [*first[:-1], other]])[:, :-1]
    if _differ(logits[0], logits[1], LATER):
        yield (
            f"model.name: {type(model).__name__} sees the tokens that come later, as encoders do, so it cannot learn "
            "to generate text (task: generation); take a decoder (GPT-2, Llama, …) or an encoder-decoder (T5, BART, …)"
        )


def _padding_faults(model: PreTrainedModel, ids: Sequence[int], pad: int, *, decodes: bool) -> Iterator[str]:
    try:
        check_length(model, len(ids) + PADDING)
    except UserError:
        return  # there is no place for padding beside so long a text
    alone = _logits(model, [list(ids)])[0]
    if decodes:  # outputs of a batch begin at one position
        found = _logits(model, [[*[pad] * PADDING, *ids]], [[*[0] * PADDING, *[1] * len(ids)]])[0, PADDING:]
    else:
        found = _logits(model, [[*ids, *[pad] * PADDING]], [[*[1] * len(ids), *[0] * PADDING]])[0]
        found = found[: len(ids)] if alone.ndim == 2 else found  # logits of every token, or of the text
    if _differ(alone, found, PADDED):
        moved = ", or on where its positions begin, which is elsewhere in decoding" if decodes else ""
        yield (
            f"model.name: what {type(model).__name__} says of a text depends on the padding beside it{moved}; its "
            "results would depend on the batch size, so take another architecture"
        )


def _logits(model: PreTrainedModel, rows: list[list[int]], mask: list[list[int]] | None = None) -> Tensor:
    takes = inspect.signature(model.forward).parameters
    ids = torch.tensor(rows, device=model.device)
    attention = torch.ones_like(ids) if mask is None else torch.tensor(mask, device=model.device)
    inputs = {"input_ids": ids, "attention_mask": attention}
    if mask is not None and mask[0][0] == 0 and "position_ids" in takes:  # as in decoding
        inputs["position_ids"] = (attention.cumsum(-1) - 1).clamp(min=0)
    logits: Tensor = model(**{name: tensor for name, tensor in inputs.items() if name in takes}).logits
    return logits.float()


def _differ(found: Tensor, other: Tensor, tolerance: float) -> bool:
    return bool((found - other).abs().max() > tolerance * found.abs().max())


def takes_inputs(model: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of these inputs, those that a model's forward pass takes: DistilBERT takes no token types.

    Args:
        model: Adapted or not.
        inputs: By name.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    parameters = inspect.signature(getattr(inner, "forward", inner)).parameters
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return {name: tensor for name, tensor in inputs.items() if anything or name in parameters}


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
