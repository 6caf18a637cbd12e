"""`autolora.find_ranks` on idle layers, wrapped models, batches that count nothing, and masks of NumPy."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model, inject_adapter_in_model
from torch import nn

from autolora.errors import UserError
from autolora.training.seeds import seed_torch
from tests.test_api import Net, batches, find, loss


class WithIdle(Net):
    """Its pooler is called by nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.pooler = nn.Linear(6, 6)


def test_layers_that_the_loss_does_not_reach_get_no_rank(capsys: pytest.CaptureFixture[str]) -> None:
    """Their selection variables stay equal, which keeps all k where something is learned."""
    found = find(WithIdle(), target_modules=["first", "second", "pooler"])
    assert found["pooler"] == 0
    assert found.rule["idle"] == ["pooler"]
    assert min(found["first"], found["second"]) > 0
    assert "1 of 3 layers get no rank, since the loss does not depend on them: pooler" in capsys.readouterr().err
    assert "pooler" not in str(found.to_lora_config().target_modules)
    with pytest.raises(UserError, match="the loss depends on none of the 1 layers, the first of which is pooler"):
        find(WithIdle(), target_modules=["pooler"])


@pytest.mark.parametrize(("wrap", "inside"), [(nn.DataParallel, "module"), (torch.compile, "_orig_mod")])
def test_a_wrapped_model_is_refused_at_once(wrap: Any, inside: str) -> None:
    with pytest.raises(UserError, match=rf"by whose layers' names .*; pass the model inside: model\.{inside}"):
        find(wrap(Net()))


@pytest.mark.parametrize("what", ["target_modules", "trainable"])
def test_a_string_is_no_list_of_names(what: str) -> None:
    """Its letters may well be names: of nn.Sequential's layers."""
    with pytest.raises(UserError, match=rf"{what}: must be a list of names, got the string '10'; write \['10'\]"):
        find(Net(), **{what: "10"})


@pytest.mark.parametrize("adapt", [get_peft_model, lambda model, config: inject_adapter_in_model(config, model)])
def test_a_model_with_an_adapter_is_refused(adapt: Any) -> None:
    adapted = adapt(Net(), LoraConfig(r=2, target_modules=["first", "second"]))
    with pytest.raises(UserError, match=r"has an adapter of PEFT's, and find_ranks takes one without.*unload\(\)"):
        find(adapted)
    bare = get_peft_model(Net(), LoraConfig(r=2, target_modules=["first"])).unload()  # type: ignore[arg-type, operator]
    assert find(bare) == find(Net())


def test_a_model_made_in_inference_mode_is_refused() -> None:
    with torch.inference_mode():
        model = Net()
    with pytest.raises(UserError, match=r"the parameter first\.weight was made in inference mode.*outside of"):
        find(model)


def test_the_users_gradients_are_given_back() -> None:
    model = Net()
    loss(model, batches(1, 1)[0]).backward()
    grads = {name: (p.grad, None if p.grad is None else p.grad.clone()) for name, p in model.named_parameters()}
    find(model)
    for name, parameter in model.named_parameters():
        grad, value = grads[name]
        assert parameter.grad is grad is not None
        assert torch.equal(grad, value), name
    clean = Net()
    find(clean)
    assert all(parameter.grad is None for parameter in clean.parameters())


class Drawing(Net):
    """Draws a mask in every pass, as SpecAugment does, by a generator of another library."""

    def __init__(self, draw: Any) -> None:
        super().__init__()
        self.draw = draw

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x * torch.tensor([self.draw() > 0.2 for _ in range(x.shape[1])]))


@pytest.mark.parametrize("draw", [random.random, np.random.rand])
def test_masks_of_python_and_numpy_are_governed_by_the_seed(draw: Any) -> None:
    found = []
    for state in (1, 2):
        random.seed(state)
        np.random.seed(state)
        found.append(find(Drawing(draw)).rule["selection"])
        after = random.random(), np.random.rand()
        random.seed(state)
        np.random.seed(state)
        assert after == (random.random(), np.random.rand()), "and go on as if nothing had been drawn"
    assert found[0] == found[1]


def test_labels_that_count_nothing_are_not_called_a_divergence() -> None:
    def mean(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        counted = batch["labels"] != -100
        return loss(model, (batch["x"][counted], batch["labels"][counted].float()))

    def labelled(count: int, seed: int) -> list[dict[str, torch.Tensor]]:
        return [{"x": x, "labels": (y > 0).long()} for x, y in batches(count, seed)]

    given = {"validation_batches": labelled(3, 2), "loss": mean}
    find(Net(), train_batches=labelled(5, 1), **given)
    nothing = labelled(5, 1)
    nothing[2]["labels"][:] = -100
    with pytest.raises(UserError, match="train_batches: the labels of a batch are all -100, so that its mean loss is"):
        find(Net(), train_batches=nothing, **given)


def test_the_seed_of_a_pass_reaches_every_generator() -> None:
    def drawn() -> tuple[float, float, float]:
        return float(torch.rand(())), random.random(), float(np.random.rand())

    seed_torch(2**62 + 3)
    first = drawn()
    seed_torch(2**62 + 3)
    assert drawn() == first
