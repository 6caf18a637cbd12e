"""Where keys and values lie has no bearing on what is said; and where an output ends."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from datasets import Dataset
from pydantic import ValidationError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    Gemma2Config,
    MambaConfig,
    PreTrainedTokenizerFast,
    T5Config,
)

from autolora.evaluation.predict import predict
from autolora.recipe.schema import Data, Decoding, Eval
from autolora.tasks.decoding import cache_fault, decode
from autolora.tasks.encoder_decoder import EncoderDecoderGeneration
from autolora.tasks.ends import cut, end_tokens, own_ends
from autolora.tasks.generation import Generation
from autolora.training.compute import Compute
from tests.tasks.test_generation import WORDS, model, tokenizer  # noqa: F401  # a fixture

ROWS = {"input": ["a", "b c d", "a b c d e a", "e"], "output": ["d", "d", "d", "d"]}
COMMON = {"vocab_size": len(WORDS), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def net(kind: str) -> Any:
    if kind in ("gpt2", "llama"):
        return model(kind)
    torch.manual_seed(0)
    if kind == "t5":
        size = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
        return AutoModelForSeq2SeqLM.from_config(T5Config(**size, **COMMON)).eval()
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    more = {"num_key_value_heads": 1, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 4}
    config = Gemma2Config(
        **size, **more, max_position_embeddings=40, initializer_range=0.5, tie_word_embeddings=False, **COMMON
    )
    return AutoModelForCausalLM.from_config(config).eval()


def outputs(kind: str, tokenizer: Any, batch_size: int = 4, given: Any = None, **generation: Any) -> list[str]:  # noqa: F811
    family = EncoderDecoderGeneration if kind == "t5" else Generation
    splits = {"train": Dataset.from_dict(ROWS), "test": Dataset.from_dict(ROWS)}
    found = Eval.model_validate({"metrics": ["bleu"], "generation": {"max_new_tokens": 8, **generation}})
    made = family(Data(path="x", columns=("input",), label="output", max_length=12), found, splits)
    examples = made.encode(splits["test"], tokenizer, "test", "eval")
    settings = {"tokenizer": tokenizer, "batch_size": batch_size, "compute": Compute("float32", cpu=True)}
    records = predict(given or net(kind), made, examples, lambda e: made.collate(e, tokenizer), **settings)
    return [record["prediction"] for record in records]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2", "t5"])
def test_a_static_cache_gives_the_same_outputs_with_padding_and_beams(tokenizer: Any, kind: str, beams: int) -> None:  # noqa: F811
    found = outputs(kind, tokenizer, beams=beams)
    assert any(found)
    assert outputs(kind, tokenizer, beams=beams, cache="static") == found
    assert outputs(kind, tokenizer, 1, beams=beams, cache="static") == found


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_a_paged_cache_gives_the_same_outputs_and_the_model_its_attention_back(tokenizer: Any, kind: str) -> None:  # noqa: F811
    one = net(kind)
    before = one.config._attn_implementation
    found = outputs(kind, tokenizer, given=one)
    assert outputs(kind, tokenizer, given=one, cache="paged") == found
    assert one.config._attn_implementation == before
    assert outputs(kind, tokenizer, given=one) == found


def test_a_cache_that_the_model_cannot_have_is_refused_by_name() -> None:
    assert "T5ForConditionalGeneration is an encoder-decoder" in cache_fault(net("t5"), Decoding(cache="paged"))
    size = {"hidden_size": 16, "state_size": 4, "num_hidden_layers": 1}
    mamba = AutoModelForCausalLM.from_config(MambaConfig(**size, **COMMON))
    for cache in ("static", "paged"):
        fault = cache_fault(mamba, Decoding.model_validate({"cache": cache}))
        assert fault.startswith(f"eval.generation.cache: {cache}: MambaForCausalLM keeps a state")
    assert cache_fault(mamba, Decoding()) == ""
    assert cache_fault(net("llama"), Decoding(cache="paged")) == ""


@pytest.mark.parametrize("other", [{"beams": 2}, {"no_repeat_ngram": 2}])
def test_a_paged_cache_takes_the_likeliest_token_alone(other: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="a paged cache takes the likeliest token alone: set beams to 1"):
        Decoding.model_validate({"cache": "paged", **other})


@pytest.mark.parametrize("cache", ["dynamic", "static", "paged"])
@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_an_output_ends_where_a_text_begins_in_it_whatever_the_batch(tokenizer: Any, kind: str, cache: str) -> None:  # noqa: F811
    if (kind, cache) == ("t5", "paged"):
        return  # refused
    whole = outputs(kind, tokenizer)
    stops = [words[len(words) // 2] for text in whole if len(words := text.split()) > 2]
    assert stops
    for size in (4,) if cache == "paged" else (1, 4):
        found = outputs(kind, tokenizer, size, cache=cache, stop=[stops[0]])
        assert found == [" ".join(cut(text, [stops[0]]).split()) for text in whole]


def test_decoding_stops_with_the_last_row_and_an_input_that_holds_the_text_is_none(
    tokenizer: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, passes = net("llama"), list[int]()
    one.register_forward_hook(lambda *_: passes.append(1))
    ids = torch.tensor([[4, 5, 1]])
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    whole = decode(one, given, Decoding(max_new_tokens=8), tokenizer)[0].split()
    assert len(whole) > 3
    before = len(passes)
    passes.clear()
    assert (
        decode(one, given, Decoding(max_new_tokens=8, stop=(whole[2],)), tokenizer)[0].split()
        == cut(" ".join(whole), [whole[2]]).split()
    )
    assert len(passes) == whole.index(whole[2]) + 1 < before


@pytest.fixture(scope="module")
def chatty() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<pad>", "<|endoftext|>", "<unk>", "a", "b"]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "eos_token": "<|endoftext|>", "unk_token": "<unk>"}
    made = PreTrainedTokenizerFast(tokenizer_object=inner, **special)
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return made


def test_a_models_own_list_of_end_tokens_is_added_where_a_family_asks_for_it(chatty: Any) -> None:
    one = net("llama")
    assert own_ends(one) == [one.generation_config.eos_token_id]
    one.generation_config.eos_token_id = [1, 4]
    assert end_tokens(chatty, [], [6, *own_ends(one)]) == [1, 6, 4]


def test_a_special_token_may_be_named_as_a_text_and_then_ends_an_output_as_a_token(chatty: Any) -> None:
    assert end_tokens(chatty, ["<|im_end|>", "a b"]) == [1, 6]


def test_a_text_is_cut_at_the_first_of_several() -> None:
    assert cut("one two three", ["three", "two"]) == "one "
    assert cut("one", []) == "one"
