"""``model.target_modules: all-linear``: every linear layer of the backbone, no head, no output embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from autolora.context.base import Context
from autolora.experiment.line import run_stages
from autolora.experiment.preflight import load_recipe
from autolora.lora.adapter import lora_layers
from autolora.lora.exact import without_weights
from autolora.lora.targets import all_linear, target_modules
from autolora.runs.store import Run
from tests.model.folders import write_model
from tests.model.recipes import made, write_recipe

AUTO = {
    "classification": "AutoModelForSequenceClassification",
    "tagging": "AutoModelForTokenClassification",
    "generation": "AutoModelForCausalLM",
}
PEFT = {"classification": "SEQ_CLS", "tagging": "TOKEN_CLS", "generation": "CAUSAL_LM"}


def context_of(folder: Path, kind: str, task: str, head: Any = "auto", auto: str = "", **config: Any) -> Context:
    model = write_model(folder / "model", kind, auto or AUTO[task], **config)
    return made(folder, task, model, model={"name": str(model), "target_modules": "all-linear", "head": head})


def found(context: Context) -> list[str]:
    """Full names of the layers that get LoRA, of which each is linear."""
    model = context.model()
    layers = target_modules(model, context.targets(model))
    assert all(isinstance(layer, nn.Linear | Conv1D) for layer in layers.values())
    assert list(layers) == [name for name, _ in model.named_modules() if name in layers]
    return list(layers)


def ends(names: list[str]) -> list[str]:
    """What the names end in, each once, in order."""
    return list(dict.fromkeys(name.rpartition(".")[2] for name in names))


def of_peft(context: Context, task: str) -> list[str]:
    """What PEFT's own word of the same name adapts, in the model's order."""
    model = context.model()
    config = LoraConfig(target_modules="all-linear", task_type=PEFT[task])
    adapted = lora_layers(get_peft_model(without_weights(model), config))
    return [name for name, _ in model.named_modules() if name in adapted]


@pytest.mark.parametrize("kind", ["bert", "electra", "gpt2", "llama", "opt", "bloom", "phi3"])
def test_a_classifier_gets_what_peft_gives_it(kind: str, tmp_path: Path) -> None:
    context = context_of(tmp_path, kind, "classification")
    assert found(context) == of_peft(context, "classification")


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("kind", "projections"),
    [
        ("gpt2", ["c_attn", "c_proj", "c_fc"]),
        ("llama", ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
        ("opt", ["k_proj", "v_proj", "q_proj", "out_proj", "fc1", "fc2"]),
        ("bloom", ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]),
    ],
)
def test_a_decoders_output_embeddings_are_left_out_tied_or_not(
    kind: str, projections: list[str], tied: bool, tmp_path: Path
) -> None:
    context = context_of(tmp_path, kind, "generation", tie_word_embeddings=tied)
    assert ends(found(context)) == projections
    assert found(context) == of_peft(context, "generation")


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_both_stacks_of_an_encoder_decoder_are_adapted(kind: str, tied: bool, tmp_path: Path) -> None:
    context = context_of(tmp_path, kind, "generation", auto="AutoModelForSeq2SeqLM", tie_word_embeddings=tied)
    names = found(context)
    # T5: q k v o in three attentions, wi_0 wi_1 wo in two; BART: four in three, fc1 fc2 in two; two layers of each.
    assert len(names) == 2 * (4 * 3 + (3 if kind == "t5" else 2) * 2)
    assert not any("lm_head" in name or "shared" in name or "embed" in name for name in names)
    assert names == of_peft(context, "generation")


def test_an_encoder_decoders_classifier_is_left_out(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "bart", "AutoModelForSequenceClassification")
    from transformers import AutoModelForSequenceClassification

    loaded = AutoModelForSequenceClassification.from_pretrained(model)
    names = all_linear(loaded, ["classification_head"])
    assert len(names) == 32
    assert all(name.startswith(("model.encoder.", "model.decoder.")) for name in names)


@pytest.mark.parametrize(
    ("kind", "head", "left_out"),
    [
        ("distilbert", "auto", {"pre_classifier", "classifier"}),
        ("roberta", "auto", {"classifier.dense", "classifier.out_proj"}),
        ("bert", "auto", {"classifier"}),
        ("bert", ["bert.pooler", "classifier"], {"classifier", "bert.pooler.dense"}),
    ],
)
def test_layers_of_the_head_are_left_out(kind: str, head: Any, left_out: set[str], tmp_path: Path) -> None:
    context = context_of(tmp_path, kind, "classification", head)
    every = {name for name, module in context.model().named_modules() if isinstance(module, nn.Linear)}
    assert every - set(found(context)) == left_out


def test_a_layer_that_all_blocks_share_is_one_target(tmp_path: Path) -> None:
    from transformers import AlbertConfig, AlbertForSequenceClassification

    config = AlbertConfig(
        vocab_size=12,
        embedding_size=8,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
    )
    model = AlbertForSequenceClassification(config)
    shared = "albert.encoder.albert_layer_groups.0.albert_layers.0"
    attention = [f"{shared}.attention.{name}" for name in ("query", "key", "value", "dense")]
    wanted = [*attention, f"{shared}.ffn", f"{shared}.ffn_output"]
    names = all_linear(model, ["classifier"])
    assert names == ["albert.encoder.embedding_hidden_mapping_in", *wanted, "albert.pooler"]
    peft = lora_layers(get_peft_model(model, LoraConfig(target_modules="all-linear", task_type="SEQ_CLS")))
    assert list(peft) == names


def test_experts_and_their_router_are_no_linear_layers(tmp_path: Path) -> None:
    context = context_of(tmp_path, "mixtral", "generation")
    assert ends(found(context)) == ["q_proj", "k_proj", "v_proj", "o_proj"]


def test_output_embeddings_inside_the_backbone_are_left_out() -> None:
    class Inner(nn.Module):
        base_model_prefix = "body"

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.ModuleDict({"proj": nn.Linear(2, 2), "vocabulary": nn.Linear(2, 5)})

        def get_output_embeddings(self) -> nn.Module:
            return self.body["vocabulary"]

    assert all_linear(Inner(), []) == ["body.proj"]


@pytest.mark.parametrize(
    ("kind", "task", "auto", "modules"),
    [
        ("bert", "classification", "", 13),
        ("gpt2", "generation", "", 8),
        ("distilbert", "tagging", "", 12),
        ("t5", "generation", "AutoModelForSeq2SeqLM", 36),
        ("mixtral", "generation", "", 8),
    ],
)
def test_a_whole_run_searches_trains_and_stores_all_of_them(
    kind: str, task: str, auto: str, modules: int, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "model", kind, auto or AUTO[task])
    settings = {"name": str(model), "target_modules": "all-linear", "dtype": "float32"}
    recipe = load_recipe(write_recipe(tmp_path, task, model, model=settings))
    run = Run.create(tmp_path / "runs", recipe)
    context = Context(recipe, show=False)
    run_stages(run, context)
    names = found(context)
    assert len(names) == modules
    assert list(run.ranks()) == names
    assert run.manifest()["stages"]["search"]["target_modules"] == names
    assert run.stage_state("eval") == "success"


def test_a_layer_that_is_too_narrow_is_said_from_the_headers(tmp_path: Path) -> None:
    from autolora.errors import RecipeError

    model = write_model(tmp_path / "model", "llama", "AutoModelForCausalLM")  # k_proj has 8 outputs
    settings = {"name": str(model), "target_modules": "all-linear"}
    path = write_recipe(tmp_path, "generation", model, model=settings)
    with pytest.raises(RecipeError, match=r"search.rank: rank 9 is above the smaller side of model.layers.0.self_attn"):
        load_recipe(path, ["search.rank=9"])
    assert load_recipe(path, ["search.rank=8"]).model.target_modules == "all-linear"


@pytest.mark.parametrize(("kind", "rank"), [("mixtral", 8), ("t5", 16), ("xlnet", 16), ("gpt2", 16)])
def test_what_is_narrow_and_no_layer_limits_no_rank(kind: str, rank: int, tmp_path: Path) -> None:
    """A router of two experts, a bias of two heads, embeddings of few positions."""
    auto = {"t5": "AutoModelForSeq2SeqLM", "xlnet": "AutoModelForSequenceClassification"}
    model = write_model(tmp_path / "model", kind, auto.get(kind, "AutoModelForCausalLM"))
    task = "classification" if kind == "xlnet" else "generation"
    settings = {"name": str(model), "target_modules": "all-linear"}
    path = write_recipe(tmp_path, task, model, model=settings)
    assert load_recipe(path, [f"search.rank={rank}"]).search.rank == rank


def test_the_skeleton_gives_the_same_layers(tmp_path: Path) -> None:
    context = context_of(tmp_path, "gpt2", "classification")
    assert context.targets(context.skeleton) == context.targets(context.model())
