"""`autolora.squeeze` of models of several precisions, which may run under autocast only."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import Tensor, nn
from torch.nn import functional as F

import autolora
from autolora.errors import UserError
from autolora.integrations.accelerate import squeeze as squeeze_prepared
from tests.allocation.models import randomise, with_lora

X = [torch.randn(10, 6, generator=torch.Generator().manual_seed(i)) for i in range(3)]
AUTOCAST: Any = {"device_type": "cpu", "dtype": torch.bfloat16}
GAUSSIAN: dict[str, Any] = {"likelihood": "gaussian"}


class Net(nn.Module):
    """Embeds indices, so that no input is floating point; its head is trained, too."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.first, self.second = nn.Embedding(9, 6), nn.Linear(6, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.head(torch.tanh(self.second(torch.tanh(self.first(self.table(ids))))).mean(1))
        return found


def net(head: torch.dtype = torch.float32) -> Any:
    """A base in bfloat16 with a LoRA in float32, as PEFT makes it, and a head: in float32 it needs autocast."""
    torch.manual_seed(0)
    model = with_lora(Net().to(torch.bfloat16), ["first", "second"], modules_to_save=["head"])
    for name, parameter in model.named_parameters():
        if "head" in name:
            parameter.data = parameter.data.to(head)
    return model


IDS = [torch.randint(9, (10, 5), generator=torch.Generator().manual_seed(i)) for i in range(3)]


def test_a_model_that_needs_the_callers_autocast_is_squeezed_under_it() -> None:
    model = net()
    with torch.autocast(**AUTOCAST):
        ranks = autolora.squeeze(model, IDS, 0.5, **GAUSSIAN)
    exact = net().float()
    wanted = autolora.squeeze(exact, IDS, 0.5, **GAUSSIAN)
    assert ranks.rule["predicted_rise"] == pytest.approx(wanted.rule["predicted_rise"], rel=0.05)
    assert sum(abs(ranks[name] - wanted[name]) for name in ranks) <= 1


def test_so_are_the_rises_of_a_tolerance() -> None:
    model = net()
    with torch.no_grad(), torch.autocast(**AUTOCAST):
        targets = {id(ids): model(ids).float() for ids in IDS}

    def loss(model: nn.Module, ids: Tensor) -> Tensor:
        return F.mse_loss(model(ids), targets[id(ids)])

    with torch.autocast(**AUTOCAST):
        ranks = autolora.squeeze(model, IDS, {"tolerance": 0.5}, loss=loss, **GAUSSIAN)
    assert ranks.parameters > 0
    assert ranks.rule["measured_rise"] > 0


def test_all_that_is_trained_has_gradients_in_the_same_autocast_afterwards() -> None:
    """What autocast keeps of a pass without gradients would cut them off."""
    model = net()
    with torch.autocast(**AUTOCAST):
        autolora.squeeze(model, IDS, 0.5, **GAUSSIAN)
        loss = model(IDS[0]).square().mean()
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_without_autocast_it_is_refused_with_the_precisions() -> None:
    model = net()
    with pytest.raises(UserError) as caught:
        autolora.squeeze(model, IDS, 0.5, **GAUSSIAN)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("the model is of several precisions (bfloat16 in base_model.model.table and ")
    assert "float32 in base_model.model.first.lora_A.default and " in message
    assert message.endswith("is trained with, such as torch.autocast('cpu', dtype=torch.bfloat16)")
    assert all(module.training for module in model.modules())


def test_another_error_of_such_a_model_stays_as_it_is() -> None:
    def likelihood(prediction: Tensor) -> Any:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match=r"^mine$"):
        autolora.squeeze(net(torch.bfloat16), IDS, 0.5, likelihood=likelihood)


def test_one_that_runs_without_is_measured_without() -> None:
    """A base in bfloat16 and a LoRA in float32: PEFT's layers see to it."""
    alone = autolora.squeeze(net(torch.bfloat16), IDS, 0.5, **GAUSSIAN)
    with torch.autocast(**AUTOCAST):
        assert autolora.squeeze(net(torch.bfloat16), IDS, 0.5, **GAUSSIAN) == alone


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_of_one_precision_is_measured_without(dtype: torch.dtype) -> None:
    alone = autolora.squeeze(net().to(dtype), IDS, 0.5, **GAUSSIAN)
    with torch.autocast(**AUTOCAST):
        assert autolora.squeeze(net().to(dtype), IDS, 0.5, **GAUSSIAN) == alone


def test_accelerates_own_autocast_is_the_trainings() -> None:
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    prepared = accelerator.prepare(net())
    forward = prepared.forward
    ranks = squeeze_prepared(accelerator, prepared, IDS, 0.5, **GAUSSIAN)
    assert prepared.forward == forward
    model = net()
    with torch.autocast(**AUTOCAST):
        assert ranks == autolora.squeeze(model, IDS, 0.5, **GAUSSIAN)
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


def test_inputs_of_another_precision_need_the_autocast_too() -> None:
    def made() -> Any:
        torch.manual_seed(0)
        model = with_lora(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(torch.bfloat16), ["0", "2"])
        randomise(model)
        return model

    with torch.autocast(**AUTOCAST):
        ranks = autolora.squeeze(made(), X, 0.5, **GAUSSIAN)
    assert ranks.parameters > 0
