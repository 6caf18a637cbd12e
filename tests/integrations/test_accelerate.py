"""A loop with accelerate: its prepared model and optimiser are squeezed in place."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedType
from torch.utils.data import DataLoader

from autolora.errors import UserError
from autolora.integrations.accelerate import squeeze
from tests.integrations.trainers import Rows, factors, model, trained


@pytest.fixture(autouse=True)
def _own_state() -> None:
    reset()


def reset() -> None:
    """Accelerate keeps its settings process-wide."""
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_the_loop_goes_on_with_the_same_objects(precision: str) -> None:
    accelerator = Accelerator(cpu=True, mixed_precision=precision, gradient_accumulation_steps=2)
    network = model()
    plain = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(plain, 1.0, 0.0, 8)
    loader = DataLoader(Rows(), batch_size=8)
    prepared, optimizer, batches, scheduler = accelerator.prepare(network, plain, loader, schedule)

    def epoch() -> None:
        for batch in batches:
            with accelerator.accumulate(prepared):
                accelerator.backward(prepared(**batch).loss)
                accelerator.clip_grad_norm_(prepared.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()

    epoch()
    before, forward = factors(prepared), prepared.forward
    found = squeeze(accelerator, prepared, DataLoader(Rows(32), batch_size=8), budget=0.5, optimizer=optimizer)
    assert prepared.forward == forward
    assert found.parameters == factors(prepared) <= before / 2
    values = trained(prepared)
    assert {id(p) for group in plain.param_groups for p in group["params"]} == {
        id(p) for p in prepared.parameters() if p.requires_grad
    }
    assert scheduler.get_last_lr() == [pytest.approx(5e-3)]
    epoch()
    assert all(not torch.equal(value, values[name]) for name, value in trained(prepared).items())


def test_the_components_are_valued_without_autocast() -> None:
    """In bfloat16 the values, and with them ties, would be others."""
    found = []
    for precision in ("no", "bf16"):
        reset()
        accelerator = Accelerator(cpu=True, mixed_precision=precision)
        network = model()
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(5))
        prepared = accelerator.prepare(network)
        found.append(squeeze(accelerator, prepared, DataLoader(Rows(32), batch_size=8)).rule["predicted_rise"])
    assert found[0] == found[1]


def test_several_processes_are_refused() -> None:
    accelerator = SimpleNamespace(distributed_type=DistributedType.MULTI_CPU, num_processes=2)
    with pytest.raises(UserError, match="MULTI_CPU with 2 processes"):
        squeeze(accelerator, model(), [])  # type: ignore[arg-type]
