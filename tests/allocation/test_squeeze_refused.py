"""What `autolora.squeeze` refuses, in one line, leaving the model as it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

import autolora
from autolora.errors import UserError
from tests.allocation.models import BUILD, adapted, batches, plain, with_lora


def untrained() -> Any:
    return get_peft_model(BUILD["classification"][0](), LoraConfig(target_modules=["query"]))


def question() -> Any:
    from transformers import BertConfig, BertForQuestionAnswering

    return with_lora(BertForQuestionAnswering(BertConfig(num_hidden_layers=1, vocab_size=40)), ["query"])


def several() -> Any:
    model = adapted("classification", dtype=torch.float32)
    model.add_adapter("other", LoraConfig(target_modules=["query"]))
    return model


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (untrained, {}, "every update is zero, nothing has been trained yet: squeeze after some of the training"),
        (lambda: nn.Linear(2, 2), {}, "squeeze takes a model with LoRA, from peft.get_peft_model; got a Linear"),
        (question, {}, "what the prediction of BertForQuestionAnswering means is not known; say likelihood='categ"),
        (plain, {}, "what the prediction of Sequential means is not known; say likelihood="),
        (plain, {"likelihood": "poisson"}, "likelihood: must be 'categorical', 'gaussian' or a function of the pred"),
        (several, {}, "bert.encoder.layer.0.attention.self.query: there must be one adapter, and active, got "),
        (lambda: adapted("llama"), {"budget": {"parameters": 3}}, "no component is kept: the budget is smaller than"),
        (lambda: adapted("llama"), {"budget": 2}, "budget fraction: must be a number above 0 and up to 1, got 2"),
        (lambda: adapted("llama"), {"batches": []}, "batches has no batch in it"),
        (lambda: adapted("llama"), {"batches": ["text"]}, "a batch is a tensor, or tensors in a mapping or a sequence"),
        (lambda: adapted("llama"), {"score": "fischer"}, "there is no score 'fischer'; did you mean 'fisher'?"),
        (lambda: adapted("llama"), {"score": "saliency"}, "the score 'saliency' needs the saliencies that a search"),
        (lambda: adapted("llama"), {"budget": {"tolerance": 0.1}}, "a tolerance needs the loss measured: give batches"),
    ],
)
def test_what_cannot_be_squeezed_is_refused_and_left_as_it_is(make: Any, options: Any, message: str) -> None:
    model = make()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(UserError) as caught:
        autolora.squeeze(model, **{"batches": batches(), **options})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    after = dict(model.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
