"""The sampled loss of every family is its own loss at targets that the prediction gave, where the data has one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from autolora.errors import UserError
from autolora.recipe.schema import Data, Eval, Loss
from autolora.registry import TASKS
from autolora.tasks.base import Task
from autolora.training.seeds import generator

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "a", "b", "c", "d"]
ROWS: dict[str, dict[str, list[Any]]] = {
    "classification": {"text": ["a b", "c", "d d d"], "label": ["x", "y", "z"]},
    "regression": {"text": ["a b", "c", "d d d"], "label": [0.5, 1.0, -2.0]},
    "tagging": {"text": [["a", "b"], ["c"], ["d", "d", "d"]], "label": [["O", "B-x"], ["O"], ["B-x", "I-x", "O"]]},
    "generation": {"text": ["a b", "c", "d d d"], "label": ["c d", "a", "b b b b"]},
    "imitation": {"text": [["a", "b"], ["c"], ["d"] * 3], "label": [["0 1", "2 3"], ["-1 0.5"], ["1 1"] * 3]},
}
SHAPES = {"classification": (3,), "regression": (1,), "tagging": (3,), "generation": (len(WORDS),), "imitation": (2,)}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, **special)


def prepared(name: str, tokenizer: Any, smoothing: float = 0.0) -> tuple[Task, dict[str, Tensor], Tensor, int]:
    """The family, a batch, logits for it, and the batch's units."""
    rows = Dataset.from_dict(ROWS[name])
    data = Data.model_validate({"path": "x", "columns": ["text"], "label": "label", "max_length": 16})
    task = TASKS.load(name)(data, Eval(), {"train": rows}, Loss(label_smoothing=smoothing))
    examples = task.encode(rows, tokenizer, "train", "train")
    batch = task.collate(examples, tokenizer)
    positions = () if name in ("classification", "regression") else tuple(batch["input_ids"].shape[1:])
    draws = torch.Generator().manual_seed(1)
    logits = torch.randn(len(examples), *positions, *SHAPES[name], generator=draws, dtype=torch.float64)
    return task, batch, logits.requires_grad_(), task.units(examples)


class Stub(nn.Module):
    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.given = logits

    def forward(self, **inputs: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.given)


def model(logits: Tensor) -> nn.Module:
    return Stub(logits)


@pytest.mark.parametrize("name", ["classification", "tagging", "generation"])
def test_it_is_the_familys_loss_at_the_drawn_targets(name: str, tokenizer: Any) -> None:
    task, batch, logits, units = prepared(name, tokenizer)
    found = task.sampled_loss(model(logits), batch, generator(7))
    assert (found.units, found.scale) == (units, 1.0)
    (grad,) = torch.autograd.grad(found.loss, logits)
    drawn = logits.detach().softmax(-1) - grad  # one-hot where there is a target
    assert int(grad.abs().sum(-1).gt(0).sum()) == units
    targets = drawn.argmax(-1)
    labels = targets[:, -batch["labels"].shape[1] - 1 : -1] if name == "generation" else targets
    labels = labels if name == "classification" else labels.where(batch["labels"] != -100, -100)
    assert torch.allclose(task.loss(model(logits), {**batch, "labels": labels}), found.loss)


def test_of_regression_it_is_half_the_familys_loss(tokenizer: Any) -> None:
    task, batch, logits, units = prepared("regression", tokenizer)
    found = task.sampled_loss(model(logits), batch, generator(7))
    assert (found.units, found.scale) == (units, 2.0)
    (grad,) = torch.autograd.grad(found.loss, logits, retain_graph=True)
    targets = (logits.detach() - grad).squeeze(-1)  # the gradient of (f - y)² / 2 is f - y
    loss = task.loss(model(logits), {**batch, "labels": targets})
    assert torch.allclose(loss / 2, found.loss)
    noise = torch.randn(3, generator=generator(7), dtype=torch.float64)
    assert torch.allclose(targets, logits.detach().squeeze(-1) + noise)


def test_of_imitation_it_is_half_the_familys_loss_with_noise_for_every_number_of_a_word(tokenizer: Any) -> None:
    task, batch, logits, units = prepared("imitation", tokenizer)
    found = task.sampled_loss(model(logits), batch, generator(7))
    assert (found.units, found.scale, units) == (12, 2.0, 12)  # six words of two numbers; padding has none
    (grad,) = torch.autograd.grad(found.loss, logits, retain_graph=True)
    assert not grad[~batch["words"]].any()
    labels = logits.detach() - grad
    assert torch.allclose(task.loss(model(logits), {**batch, "labels": labels}) / 2, found.loss)
    noise = torch.randn(6, 2, generator=generator(7), dtype=torch.float64)
    assert torch.allclose((labels - logits.detach())[batch["words"]], noise)


@pytest.mark.parametrize("name", list(ROWS))
def test_label_smoothing_and_the_labels_themselves_say_nothing(name: str, tokenizer: Any) -> None:
    plain, batch, logits, _ = prepared(name, tokenizer)
    smooth, _, _, _ = prepared(name, tokenizer, smoothing=0.3)
    other = {**batch, "labels": batch["labels"].where(batch["labels"] == -100, 1)}
    wanted = plain.sampled_loss(model(logits), batch, generator(7)).loss
    assert torch.equal(smooth.sampled_loss(model(logits), other, generator(7)).loss, wanted)
    assert not torch.equal(plain.sampled_loss(model(logits), batch, generator(8)).loss, wanted)


def test_a_family_without_one_says_so(tokenizer: Any) -> None:
    task, batch, logits, _ = prepared("classification", tokenizer)
    with pytest.raises(UserError, match=r"^the task family Classification has no sampled_loss, which the score fisher"):
        Task.sampled_loss(task, model(logits), batch, generator(7))
