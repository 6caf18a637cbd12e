"""Frozen weights that are cast once: the same bits, the casts gone or made anew when they have to be."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from autolora.lora.cast import CastLinear, cast_always, cast_once


def adapted() -> PeftModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_labels=3
    )
    lora = LoraConfig(r=3, lora_dropout=0.1, target_modules=["query", "value"], modules_to_save=["classifier"])
    return get_peft_model(BertForSequenceClassification(config), lora).train()  # type: ignore[return-value]


def step(model: nn.Module, *, autocast: bool = True) -> list[Tensor]:
    """Loss and gradients of a pass with dropout."""
    torch.manual_seed(1)
    ids, labels = torch.randint(50, (5, 7)), torch.tensor([0, 1, 2, 0, 1])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = model(input_ids=ids, labels=labels).loss
    wrt = [each for each in model.parameters() if each.requires_grad]
    return [loss.detach(), *torch.autograd.grad(loss, wrt)]


def same(found: list[Tensor], wanted: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("autocast", [True, False])
def test_passes_have_the_same_bits(autocast: bool) -> None:
    model = adapted()
    wanted = step(model, autocast=autocast)
    cast_once(model)
    assert sum(isinstance(module, CastLinear) for module in model.modules()) > 10
    for _ in range(2):  # the first makes the casts, the second has them
        assert same(step(model, autocast=autocast), wanted)


def test_a_pass_casts_no_frozen_weight_that_was_cast() -> None:
    model = adapted()
    cast_once(model)
    step(model)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profiler:
        step(model)
    cast = [tuple(event.input_shapes[0]) for event in profiler.events() if event.name == "aten::_to_copy"]
    assert (3, 32) in cast  # A, which is trained
    frozen = {tuple(m.weight.shape) for m in model.modules() if isinstance(m, CastLinear)} - {(3, 32)}
    assert len(frozen) == 3
    assert not frozen & set(cast)


def _in_place(layer: nn.Linear) -> None:
    with torch.no_grad():
        layer.weight.mul_(2.0)


def _exchanged(layer: nn.Linear) -> None:
    layer.weight = nn.Parameter(layer.weight.detach() * 2.0, requires_grad=False)


def _data(layer: nn.Linear) -> None:
    layer.weight.data = layer.weight.data * 2.0


@pytest.mark.parametrize("change", [_in_place, _exchanged, _data])
def test_a_changed_weight_is_cast_anew(change: Callable[[nn.Linear], None]) -> None:
    plain, model = adapted(), adapted()
    cast_once(model)
    step(model)
    for each in (plain, model):
        change(each.get_submodule("base_model.model.bert.encoder.layer.1.output.dense"))  # type: ignore[arg-type]
    assert same(step(model), step(plain))


def test_a_first_pass_in_inference_mode_leaves_casts_to_train_with() -> None:
    model, wanted = adapted(), step(adapted())
    cast_once(model)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        model(input_ids=torch.tensor([[1, 2, 3]]))
    assert same(step(model), wanted)


def test_what_is_saved_is_as_it_was() -> None:
    model = adapted()
    before = copy.deepcopy(model.state_dict())
    cast_once(model)
    step(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert same(list(after.values()), list(before.values()))
    cast_always(model)
    assert not any(isinstance(module, CastLinear) or "_casts" in module.__dict__ for module in model.modules())
