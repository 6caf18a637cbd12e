"""Which modules a recipe's names mean."""

from __future__ import annotations

import pytest
from torch import nn
from transformers import AutoModelForCausalLM, MixtralConfig
from transformers.pytorch_utils import Conv1D

from autolora.errors import UserError
from autolora.lora.targets import head_modules, input_output_features, matches, target_modules
from tests.model.tiny import ARCHITECTURES, HIDDEN, tiny_model


@pytest.mark.parametrize(
    ("module", "name", "meant"),
    [
        ("bert.layer.0.query", "query", True),
        ("query", "query", True),
        ("bert.layer.0.query", "0.query", True),
        ("bert.layer.10.query", "0.query", False),
        ("bert.layer.0.myquery", "query", False),
        ("bert.layer.0.query.base", "query", False),
        ("bert.layer.0.query", "bert.layer.0.query", True),
        ("bert.layer.0.query", "qu.ry", False),
    ],
)
def test_a_name_means_a_dotted_end(module: str, name: str, meant: bool) -> None:
    assert matches(module, name) is meant


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_targets_are_found_in_every_layer(name: str) -> None:
    architecture = ARCHITECTURES[name]
    found = target_modules(tiny_model(name), architecture.targets)
    assert len(found) == 2 * len(architecture.targets)
    assert all(isinstance(module, Conv1D if name == "gpt2" else nn.Linear) for module in found.values())


def test_one_layer_can_be_targeted_by_its_full_name() -> None:
    name = "bert.encoder.layer.1.attention.self.query"
    assert list(target_modules(tiny_model("bert", layers=12), [name])) == [name]


def test_a_misspelt_target_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"target module 'vlaue' matches no layer of the model; did you mean 'value'\?"):
        target_modules(tiny_model("bert"), ["query", "vlaue"])


def test_a_target_of_another_model_lists_what_there_is() -> None:
    with pytest.raises(UserError, match=r"target module 'wi_0' matches no layer of the model; the model has: .*query"):
        target_modules(tiny_model("bert"), ["wi_0"])


def test_a_target_that_is_not_linear_is_refused() -> None:
    with pytest.raises(UserError, match=r"is a LayerNorm; LoRA here adapts nn.Linear and Conv1D"):
        target_modules(tiny_model("bert"), ["LayerNorm"])


def test_experts_are_refused_by_the_name_of_their_parameter() -> None:
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "vocab_size": 12}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "num_local_experts": 2}
    model = AutoModelForCausalLM.from_config(MixtralConfig(**size, **heads))
    with pytest.raises(UserError, match=r"'gate_up_proj' is the parameter .*gate_up_proj of 3 dimensions"):
        target_modules(model, ["q_proj", "gate_up_proj"])


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("bert", ["classifier"]),
        ("roberta", ["classifier"]),
        ("deberta-v2", ["pooler", "classifier"]),
        ("gpt2", ["score"]),
        ("llama", ["score"]),
    ],
)
def test_the_head_is_what_lies_beside_the_backbone(name: str, head: list[str]) -> None:
    assert head_modules(tiny_model(name), None) == head


def test_a_pooler_belongs_to_the_head_where_it_is_named() -> None:
    assert head_modules(tiny_model("bert"), ["classifier", "bert.pooler"]) == ["bert.pooler", "classifier"]


def test_a_misspelt_head_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"head module 'clasifier' matches no layer of the model; did you mean 'class"):
        head_modules(tiny_model("bert"), ["clasifier"])


def test_sizes_are_input_then_output_whichever_way_the_weight_lies() -> None:
    assert input_output_features(nn.Linear(3, 5)) == (3, 5)
    assert input_output_features(Conv1D(5, 3)) == (3, 5)
    attention = target_modules(tiny_model("gpt2"), ["0.attn.c_attn"])
    assert [input_output_features(module) for module in attention.values()] == [(HIDDEN, 3 * HIDDEN)]
