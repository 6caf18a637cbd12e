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
from transformers import LlamaConfig, LlamaForCausalLM

import autolora
from autolora.allocation.squeeze import _mean_loss, own_loss
from tests.allocation.models import adapted, plain, token_batch, with_lora

SMALL = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.2,
}

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


def test_a_decoder_is_measured_as_one_whatever_it_is_called() -> None:
    """Models with images and a class of one's own predict the next token, too."""

    class MineForConditionalGeneration(LlamaForCausalLM):
        pass

    class Mine(LlamaForCausalLM):
        pass

    found, batch = [], token_batch(padded=False)
    labels = torch.full_like(batch["input_ids"], -100)
    labels[:, -1] = batch["input_ids"][:, -1]
    for kind, likelihood in ((LlamaForCausalLM, None), (MineForConditionalGeneration, None), (Mine, "categorical")):
        torch.manual_seed(0)
        config = LlamaConfig(**SMALL, intermediate_size=24, num_key_value_heads=1)
        model = with_lora(kind(config), ["q_proj", "down_proj"])
        found.append(autolora.squeeze(model, [{**batch, "labels": labels}], 0.3, likelihood=likelihood))
    assert found[0] == found[1] == found[2]


def test_batches_without_a_label_that_counts_have_no_part_in_a_measured_rise() -> None:
    batch = token_batch()
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    nothing = {**token_batch(seed=9), "labels": torch.full_like(batch["labels"], -100)}
    rises = []
    for given in ([batch], [batch, nothing]):
        model = adapted("llama", dropout=0.0, dtype=torch.float32)
        loss = _mean_loss(model, given, own_loss)
        rises.append(loss())
    assert rises[0] == rises[1]


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
