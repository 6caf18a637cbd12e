"""Packed rows are what their examples are alone: loss, gradients, drawn targets, gates; or they are refused."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from transformers import (
    BloomConfig,
    GPT2Config,
    MambaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen3Config,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from autolora.allocation.gates import measure_gates
from autolora.allocation.rows import rows_of
from autolora.model.fit import packing_faults
from autolora.model.packed import varying_lengths
from autolora.recipe.schema import Data, Eval, Loss
from autolora.tasks.chat import Chat
from autolora.tasks.packing import begins, in_rows, packed_batch
from tests.allocation.models import measured_layers, randomise, with_lora
from tests.chat_tokenizers import tiny_llama, tokenizer_of

LONGEST = 60
TOKENIZER = tokenizer_of("qwen-2")


def example(length: int, *spans: int, seed: int = 0) -> dict[str, Any]:
    draws = torch.Generator().manual_seed(seed + length)
    ids = torch.randint(5, 250, (length,), generator=draws).tolist()
    return {"input_ids": ids, "learned": list(spans), "prompt": spans[0]}


EXAMPLES = [example(20, 5, 9, 15, 20), example(31, 7, 31), example(9, 1, 4), example(45, 30, 45), example(5, 4, 5)]


def task(*, packing: bool, smoothing: float = 0.0) -> Chat:
    data = Data(path="x", columns=("messages",), label="messages", max_length=LONGEST, packing=packing)
    return Chat(data, Eval(), {}, Loss(label_smoothing=smoothing))


def batch(*, packing: bool) -> dict[str, torch.Tensor]:
    return task(packing=packing).collate(EXAMPLES, TOKENIZER)


@pytest.mark.parametrize(
    ("lengths", "rows"),
    [([3, 4, 5], [[0, 1], [2]]), ([7], [[0]]), ([8, 1, 6], [[0], [1, 2]]), ([1] * 8, [[*range(7)], [7]]), ([], [])],
)
def test_rows_hold_no_more_than_they_may_and_keep_the_order(lengths: list[int], rows: list[list[int]]) -> None:
    assert in_rows(lengths, 7) == rows


def test_positions_begin_anew_and_labels_stay_with_their_examples() -> None:
    packed = packed_batch(EXAMPLES, LONGEST, pad=0)
    assert packed["input_ids"].shape == (2, 60)
    assert packed["position_ids"][0].tolist() == [*range(20), *range(31), *range(9)]
    assert packed["position_ids"][1].tolist() == [*range(45), *range(15)]  # the padding belongs to the last example
    assert begins(EXAMPLES, LONGEST) == [(0, 0), (0, 20), (0, 51), (1, 0), (1, 45)]
    found = batch(packing=True)
    labelled = found["labels"] != -100
    assert labelled.sum() == task(packing=True).units(EXAMPLES) == 9 + 24 + 3 + 15 + 1
    ids = found["input_ids"][:, -found["labels"].shape[1] :]
    assert torch.equal(found["labels"][labelled], ids[labelled])
    assert found["labels"].shape[1] == 60 - 5
    told = [
        id
        for each in EXAMPLES
        for begin, end in zip(each["learned"][::2], each["learned"][1::2], strict=True)
        for id in each["input_ids"][begin:end]
    ]
    assert found["labels"][labelled].tolist() == told
    assert "attention_mask" not in found


CONFIGS: dict[str, Any] = {
    "qwen3": Qwen3Config(head_dim=8, num_key_value_heads=1, num_hidden_layers=2, num_attention_heads=2, hidden_size=16),
    "mistral, a window": MistralConfig(
        sliding_window=6, num_key_value_heads=1, num_hidden_layers=2, num_attention_heads=2, hidden_size=16
    ),
    "gpt2": GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=80, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0),
}


def model(name: str, attention: str = "sdpa") -> PreTrainedModel:
    if name == "llama":
        made: Any = tiny_llama()
        made.set_attn_implementation(attention)
        return made  # type: ignore[no-any-return]
    config = CONFIGS[name]
    config.vocab_size, config.initializer_range = 300, 0.2
    torch.manual_seed(0)
    found: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return found.eval()


def gradients(net: PreTrainedModel, made: Chat, tensors: dict[str, torch.Tensor]) -> tuple[float, dict[str, Any]]:
    loss = made.loss(net, tensors)
    named = {name: weight for name, weight in net.named_parameters() if weight.requires_grad}
    return loss.item(), dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["llama", *CONFIGS])
def test_loss_and_gradients_are_those_of_rows_of_their_own(name: str, attention: str) -> None:
    net = model(name, attention)
    loss, slopes = gradients(net, task(packing=True, smoothing=0.1), batch(packing=True))
    alone, others = gradients(net, task(packing=False, smoothing=0.1), batch(packing=False))
    assert loss == pytest.approx(alone, rel=1e-5)
    for weight, slope in slopes.items():
        assert torch.allclose(slope, others[weight], rtol=1e-4, atol=1e-5 * float(others[weight].abs().max())), weight
    assert packing_faults(net, EXAMPLES) == []


def test_examples_of_a_row_would_see_each_other_without_the_positions() -> None:
    net, made, packed = model("llama"), task(packing=True), batch(packing=True)
    counted = torch.arange(packed["input_ids"].shape[1]).expand_as(packed["input_ids"])
    seen = made.loss(net, {**packed, "position_ids": counted}).item()
    assert abs(seen - made.loss(net, packed).item()) > 0.1


def test_targets_are_drawn_alike() -> None:
    net = model("llama")
    found = [
        task(packing=packing).sampled_loss(net, batch(packing=packing), torch.Generator().manual_seed(3))
        for packing in (True, False)
    ]
    assert found[0].units == found[1].units == 52
    assert found[0].loss.item() == pytest.approx(found[1].loss.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["llama", *CONFIGS])
def test_the_lengths_that_flash_attention_takes_are_those_of_the_examples_and_others_leave_them_alone(
    name: str,
) -> None:
    packed = batch(packing=True)
    lengths = varying_lengths(packed["position_ids"])
    assert lengths["cu_seq_lens_q"].tolist() == [0, 20, 51, 60, 105, 120]  # the padding belongs to the last example
    assert lengths["cu_seq_lens_q"].dtype == torch.int32
    assert lengths["max_length_q"] == lengths["max_length_k"] == 45
    net, inputs = model(name), task(packing=True).inputs(packed)
    assert torch.equal(net(**inputs, **lengths).logits, net(**inputs).logits)


def test_gates_are_measured_example_by_example() -> None:
    adapted = with_lora(copy.deepcopy(model("llama")), ["q_proj", "down_proj"])
    randomise(adapted)
    layers, components = measured_layers(adapted)
    found = []
    for packing in (True, False):
        made, tensors = task(packing=packing), batch(packing=packing)
        rows = rows_of(tensors)
        assert rows.count == len(EXAMPLES)
        gates = measure_gates(adapted, layers, components, [(tensors, rows)], partial(made.sampled_loss, adapted))
        found.append(gates.derivatives)
    assert found[1].abs().max() > 0
    assert torch.allclose(found[0], found[1], rtol=1e-3, atol=1e-5 * float(found[1].abs().max()))


@pytest.mark.parametrize(
    "config",
    [
        BloomConfig(hidden_size=16, n_layer=2, n_head=2, vocab_size=300, initializer_range=0.2),
        MambaConfig(hidden_size=16, num_hidden_layers=2, state_size=4, vocab_size=300, initializer_range=0.2),
    ],
    ids=["no positions", "a state"],
)
def test_models_to_which_packed_examples_are_one_are_refused_by_name(config: Any) -> None:
    torch.manual_seed(0)
    net = AutoModelForCausalLM.from_config(config)
    (fault,) = packing_faults(net, EXAMPLES)
    assert f"data.packing: to {type(net).__name__} examples that share a row are not what they are alone" in fault
    assert net.training
