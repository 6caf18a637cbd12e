"""`autolora.squeeze` from wherever it is called, on models that compute otherwise in evaluation, or are compiled."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from torch import Tensor, nn
from torch.nn import functional as F

import autolora
from tests.allocation.models import plain, with_lora

X = [torch.randn(10, 6, generator=torch.Generator().manual_seed(i)) for i in range(3)]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_caller_without_gradients_gets_what_another_gets_and_trains_on(context: Any) -> None:
    model = plain()
    with context():
        ranks = autolora.squeeze(model, X, 0.5, likelihood="gaussian")
    assert ranks == autolora.squeeze(plain(), X, 0.5, likelihood="gaussian")
    model(X[0]).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_a_compiled_model_is_measured_as_it_is_written() -> None:
    """Compiled code takes no notice of hooks: every derivative would be zero, and the ranks in the model's order."""
    model = plain()
    model.compile(backend="eager")
    model(X[0])
    with torch.no_grad():
        model.eval()(X[0])
    ranks = autolora.squeeze(model.train(), X, 0.5, likelihood="gaussian")
    alone = plain()
    assert ranks == autolora.squeeze(alone, X, 0.5, likelihood="gaussian")
    assert torch.allclose(model(X[0]), alone(X[0]))  # the code of the layers before is not used any more


class Encoder(nn.Module):
    """In evaluation mode torch computes its layers by a fast path, which takes the weights and leaves out PEFT's."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.layers, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.layers(x).mean(1))
        return found


def test_a_tolerance_is_measured_with_the_lora_of_torchs_own_encoder() -> None:
    torch.manual_seed(0)
    model = with_lora(Encoder(), ["linear1", "linear2"])
    x = torch.randn(16, 5, 8)
    wanted = model.train()(x).detach()  # what the LoRA is trained for, so that it has gained something

    def loss(model: nn.Module, x: Tensor) -> Tensor:
        return F.mse_loss(model(x), wanted)

    ranks = autolora.squeeze(model, [x], {"tolerance": 0.5}, likelihood="gaussian", loss=loss)
    assert float(loss(model, x).detach()) == pytest.approx(ranks.rule["measured_rise"], rel=1e-3)
    assert torch.backends.mha.get_fastpath_enabled()


def test_what_began_otherwise_is_loaded_at_any_rank(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6))
    clean = copy.deepcopy(base)
    model = with_lora(base, ["0", "2"], rank=4, init_lora_weights="orthogonal")  # which takes even ranks only
    ranks = autolora.squeeze(model, X, 0.4, likelihood="gaussian")
    assert any(rank % 2 for rank in ranks.values())
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(clean, tmp_path)  # type: ignore[arg-type]
    found = get_peft_model_state_dict(model)
    assert all(torch.equal(value, found[name]) for name, value in get_peft_model_state_dict(loaded).items())
