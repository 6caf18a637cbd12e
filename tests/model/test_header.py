"""Headers and config.json tell in milliseconds that a checkpoint is not the model's; and flag no checkpoint that is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoModelForCausalLM,
    BartConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BloomConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    ModernBertConfig,
    MPNetConfig,
    OPTConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen3Config,
    RobertaConfig,
    T5Config,
    XLMRobertaConfig,
)

from autolora.errors import RecipeError
from autolora.experiment.preflight import check_recipe
from autolora.model.header import faults
from tests.model.checkpoints import checkpoint, copied, edit_weights, recipe_of

HIDDEN = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
INNER = {**HIDDEN, "intermediate_size": 32}
KEYED = {**INNER, "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0}
MODELS: list[tuple[type[PreTrainedConfig], dict[str, Any]]] = [
    (RobertaConfig, INNER),
    (XLMRobertaConfig, INNER),
    (DistilBertConfig, {"vocab_size": 40, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}),
    (ElectraConfig, {**INNER, "embedding_size": 8}),
    (AlbertConfig, {**INNER, "embedding_size": 8}),
    (DebertaV2Config, INNER),
    (ModernBertConfig, {**INNER, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2}),
    (MPNetConfig, INNER),
    (GPT2Config, {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2}),
    (OPTConfig, {**HIDDEN, "ffn_dim": 32, "word_embed_proj_dim": 8}),
    (BloomConfig, {"vocab_size": 40, "hidden_size": 16, "n_layer": 2, "n_head": 2}),
    (GPTNeoXConfig, INNER),
    (LlamaConfig, KEYED),
    (Qwen3Config, KEYED),
    (Gemma3TextConfig, KEYED),
    (Phi3Config, KEYED),
    (MixtralConfig, {**KEYED, "num_local_experts": 2}),
    (T5Config, {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}),
    (BartConfig, {"vocab_size": 40, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2}),
]


@pytest.mark.parametrize(("kind", "size"), MODELS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_whole_model_of_any_architecture_has_no_fault(
    tmp_path: Path, kind: type[PreTrainedConfig], size: dict[str, Any]
) -> None:
    for auto in (AutoModel, AutoModelForCausalLM):
        try:
            model = auto.from_config(kind(**size))
        except ValueError:  # none of this kind
            continue
        model.save_pretrained(tmp_path / auto.__name__)
        assert faults(tmp_path / auto.__name__) == []


@pytest.mark.parametrize("kind", [BertForMaskedLM, BertForSequenceClassification])
def test_another_tasks_checkpoint_has_no_fault(laboratory: Path, tmp_path: Path, kind: type) -> None:
    assert faults(checkpoint(laboratory, tmp_path / "model", kind)) == []


@pytest.mark.parametrize(
    ("entry", "value", "said"),
    [
        ("vocab_size", 50, "config.json says vocab_size 50, and embeddings.word_embeddings.weight has 31"),
        ("hidden_size", 64, "config.json says hidden_size 64, and embeddings.word_embeddings.weight has 32"),
        ("num_hidden_layers", 3, "config.json says num_hidden_layers 3, and encoder.layer.… has 2"),
        ("num_hidden_layers", 1, "config.json says num_hidden_layers 1, and encoder.layer.… has 2"),
    ],
)
def test_a_recipe_with_another_models_configuration_is_faulty(
    laboratory: Path, tmp_path: Path, entry: str, value: int, said: str
) -> None:
    model = copied(laboratory / "model", tmp_path / "model", **{entry: value})
    with pytest.raises(RecipeError) as error:
        check_recipe(recipe_of(laboratory, model))
    assert f"model.name: {model}: {said}; take the config.json" in str(error.value)


RENAMED: list[tuple[Callable[[str], str], str]] = [
    (lambda name: f"_orig_mod.{name}", "'_orig_mod.'"),
    (lambda name: f"module.{name}", "'module.'"),
    (lambda name: f"base_model.model.{name}", "'base_model.model.'"),
    (lambda name: name.replace("query.", "query.base_layer."), "was not merged"),
]


@pytest.mark.parametrize(("rename", "said"), RENAMED)
def test_a_recipe_with_a_renamed_checkpoint_is_faulty(
    laboratory: Path, tmp_path: Path, rename: Callable[[str], str], said: str
) -> None:
    model = copied(laboratory / "model", tmp_path / "model")
    edit_weights(model, lambda tensors: {rename(name): tensor for name, tensor in tensors.items()})
    with pytest.raises(RecipeError, match=said):
        check_recipe(recipe_of(laboratory, model))


def test_a_folder_without_safetensors_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "num_hidden_layers": 3}))
    assert faults(tmp_path) == []
