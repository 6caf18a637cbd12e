"""What `autolora.squeeze` refuses, in one line, leaving the model as it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

import autolora
from autolora.errors import UserError
from tests.allocation.models import BUILD, adapted, batches, plain, randomise, with_lora


def untrained() -> Any:
    return get_peft_model(BUILD["classification"][0](), LoraConfig(target_modules=["query"]))


def question() -> Any:
    from transformers import BertConfig, BertForQuestionAnswering

    return with_lora(BertForQuestionAnswering(BertConfig(num_hidden_layers=1, vocab_size=40)), ["query"])


def several() -> Any:
    model = adapted("classification", dtype=torch.float32)
    model.add_adapter("other", LoraConfig(target_modules=["query"]))
    return model


class Experts(nn.Module):
    """Weights that are no module's, so that PEFT adapts them as parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(2, 6, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.weights).sum(0)


def experts() -> Any:
    config = LoraConfig(r=2, target_modules=[], target_parameters=["0.weights"])
    found = get_peft_model(nn.Sequential(Experts()), config)  # type: ignore[arg-type]
    randomise(found)
    return found


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.attention(x, x, x)[0]
        return found


def disabled() -> Any:
    model = plain()
    model.base_model.disable_adapter_layers()
    return model


def one_output() -> Any:
    return with_lora(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)), ["0"])


def several_labels() -> Any:
    """Whose configuration says nothing of that before a pass with labels."""
    return with_lora(BertForSequenceClassification(BertConfig(**_SMALL, num_labels=5)), ["query"])


def negative(**more: Any) -> Any:
    config = LoraConfig(r=2, target_modules=["0", "2"], **more)
    found = get_peft_model(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), config)  # type: ignore[arg-type]
    randomise(found)
    return found


def inference() -> Any:
    with torch.inference_mode():
        return plain()


def image() -> Any:
    return with_lora(nn.Sequential(nn.Linear(6, 6)), ["0"])


_SMALL: dict[str, Any] = {"num_hidden_layers": 1, "vocab_size": 40, "hidden_size": 16, "num_attention_heads": 2}
MANY = [{**batch, "labels": torch.rand(4, 5)} for batch in batches()]
NONE = [{**batch, "labels": torch.full_like(batch["input_ids"], -100)} for batch in batches()]
GAUSSIAN: dict[str, Any] = {"batches": [torch.randn(5, 4, 6)], "likelihood": "gaussian"}
FLAT: dict[str, Any] = {**GAUSSIAN, "batches": [torch.randn(5, 6)]}
OTHERS = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (
            lambda: negative(lora_alpha=-8),
            FLAT,
            "lora_alpha: must be a finite number from 0, got -8; of a neg",
        ),
        (
            lambda: negative(lora_alpha=8, alpha_pattern={"2": -4}),
            FLAT,
            "lora_alpha: must be a finite number from 0, got -4; of a negative one take the positive, and negate",
        ),
        (inference, FLAT, "the parameter base_model.model.0.base_layer.weight was made in inference mode, and no grad"),
        (experts, FLAT, "0: only a plain LoRA on a linear layer can be decomposed"),
        (lambda: with_lora(Attention(), ["attention"]), GAUSSIAN, "attention: only a plain LoRA on a linear layer can"),
        (lambda: with_lora(Attention(), ["out_proj"]), GAUSSIAN, "the prediction depends on none of the components: "),
        (disabled, FLAT, "0: the adapter is disabled; call enable_adapter_layers(), or leave disable_adapter()"),
        (one_output, {**FLAT, "likelihood": "categorical"}, "a prediction of shape (5, 1) is not categorical: "),
        (
            lambda: with_lora(nn.Sequential(nn.Linear(6, 6)), ["0"], init_lora_weights="pissa"),
            FLAT,
            "an adapter with init_lora_weights='pissa' cannot be squeezed: PEFT changes the base model's weights",
        ),
        (
            lambda: with_lora(BUILD["classification"][0](), ["query"], init_lora_weights="olora"),
            {},
            "an adapter with init_lora_weights='olora' cannot be squeezed",
        ),
        (plain, {**FLAT, "optimizer": OTHERS}, "the optimizer (SGD) does not hold base_model.model.0.lora_A.default."),
        (plain, {**FLAT, "optimizer": [OTHERS]}, "optimizer: must be one of torch's, got a list; leave optimizer= out"),
        (plain, {**FLAT, "examples": 0}, "examples: must be a whole number from 1, got 0"),
        (plain, {**FLAT, "batches": torch.randn(5, 6)}, "batches: must be a list of batches, or a DataLoader, got one"),
        (plain, {**FLAT, "batches": [torch.randn(0, 6)]}, "batches has no batch in it"),
        (
            plain,
            {**FLAT, "budget": {"tolerance": 0.1}, "loss": lambda model, x: model(x)},
            "loss= must give a batch's mean loss, one number; got a Tensor of shape (5, 3)",
        ),
        (several_labels, {"batches": MANY}, "the labels are floating point, as those of several classes at a time are"),
        (
            image,
            {"batches": [torch.randn(2, 3, 4, 6)], "likelihood": "categorical"},
            "a prediction of shape (2, 3, 4, 6) is not (examples, classes) or (examples, positions, classes); say",
        ),
        (
            lambda: adapted("tagging", dtype=torch.float32),
            {"batches": [{**batches()[0], "labels": torch.zeros(4, 9, dtype=torch.long)}]},
            "a prediction of shape (4, 7, 5) is of (4, 7) positions, and labels of (4, 9): which of them count",
        ),
        (
            lambda: adapted("llama", dtype=torch.float32),
            {"batches": NONE, "budget": {"tolerance": 0.1}},
            "there is no example to measure the components on",
        ),
        (lambda: nn.DataParallel(plain()), FLAT, "the model is a DataParallel, by whose layers' names no other model"),
        (
            lambda: with_lora(torch.compile(nn.Sequential(nn.Linear(6, 3))), ["0"]),
            FLAT,
            "the model is a OptimizedModule, by whose layers' names no other model could be adapted; pass the model",
        ),
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
