"""The benchmark of throughput in short: a step of each training, on real data where that is there."""

from __future__ import annotations

import pytest
import torch
from accelerate.state import AcceleratorState
from transformers import BertConfig, BertForSequenceClassification

from benchmarks import throughput
from benchmarks.throughput import ALONE, DEFAULT, GROUPED, OURS, RANDOM, frozen, rows


def test_all_trainings_take_their_turns(capsys: pytest.CaptureFixture[str]) -> None:
    throughput.main(["--block", "1", "--blocks", "1", "--warmup", "0", "--batch-size", "2", "--precision", "float32"])
    said = capsys.readouterr().out
    assert all(f"| {name} " in said for name in (OURS, GROUPED, RANDOM, ALONE))
    assert DEFAULT not in said  # in float32 it is the random one
    assert torch.is_grad_enabled()


def test_trainers_defaults_have_their_precision_beside_another(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AcceleratorState, "_shared_state", {})  # that of other tests comes back
    throughput.main(["--block", "1", "--blocks", "1", "--warmup", "0", "--batch-size", "2", "--precision", "bfloat16"])
    said = capsys.readouterr().out
    assert all(f"| {name} " in said for name in (OURS, GROUPED, RANDOM, ALONE, DEFAULT))


def test_ratios_are_of_medians_and_of_all_blocks() -> None:
    ours, grouped = rows({OURS: [1.0, 2.0, 3.0], GROUPED: [3.0, 3.0, 9.0]}, 10)
    assert (ours["samples/s"], grouped["samples/s"]) == ("5.0", "3.3")
    assert (grouped["ours is so many times as fast"], grouped["over all blocks"]) == ("1.50", "2.50")


def test_without_lora_the_gradient_goes_back_through_every_layer() -> None:
    config = BertConfig(
        vocab_size=11, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, num_labels=2
    )
    model = frozen(BertForSequenceClassification(config), ["classifier"])
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    assert list(trained) == ["bert.embeddings.word_embeddings.shift", "classifier.weight", "classifier.bias"]
    loss = model(torch.tensor([[1, 2, 3]]), labels=torch.tensor([1])).loss
    assert all(each.abs().sum() > 0 for each in torch.autograd.grad(loss, list(trained.values())))
