"""Derivatives to gates against autograd of explicit gates, one example at a time, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from autolora.allocation.components import components_of
from autolora.allocation.gates import Gates, closed, measure_gates
from autolora.allocation.likelihood import Predictive
from autolora.allocation.passes import evaluating
from autolora.allocation.rows import Rows, rows_of
from autolora.errors import RunError, UserError
from autolora.training.sampling import Sampled, sampled_categorical
from autolora.training.seeds import derive, generator
from tests.allocation.models import adapted, brute_force, measured_layers, token_batch, with_lora

NAMES = ["classification", "regression", "tagging", "albert", "gpt2", "llama", "opt"]


def found_gates(model: PeftModel, batch: Any, seed: int = 5) -> tuple[Gates, Any, Any]:
    layers, components = measured_layers(model)
    predictive = Predictive(model, model.get_base_model())
    return (
        measure_gates(model, layers, components, [(batch, rows_of(batch))], predictive.sampled, seed=seed),
        layers,
        components,
    )


class Drawn:
    """The targets that the measurement drew, taken from it, so that the truth is that of the same targets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.targets: list[Tensor] = []
        import autolora.training.sampling as sampling

        before = sampling.drawn

        def drawn(logits: Tensor, uniform: Tensor) -> Tensor:
            self.targets.append(before(logits, uniform))
            return self.targets[-1]

        monkeypatch.setattr(sampling, "drawn", drawn)


def counted(name: str, batch: dict[str, Tensor]) -> Tensor:
    """Which positions have a target, as the definition says."""
    mask = batch["attention_mask"].bool()
    return mask if name == "tagging" else mask[:, 1:]


@pytest.mark.parametrize("name", NAMES)
def test_they_are_those_of_explicit_gates(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Drawn(monkeypatch)
    model, batch = adapted(name), token_batch()
    gates, layers, components = found_gates(model, batch)
    size = len(batch["input_ids"])
    one = [{key: value[i : i + 1] for key, value in batch.items()} for i in range(size)]
    if name == "regression":
        noise = torch.randn(size, 1, generator=generator(derive(5, "gates", 0)), dtype=torch.float64)
        with torch.no_grad():
            targets = model.eval()(**batch).logits + noise
        losses = [lambda i=i: (model(**one[i]).logits - targets[i]).square().sum() / 2 for i in range(size)]
    elif name in ("classification", "albert"):
        (targets,) = drawn.targets
        losses = [lambda i=i: F.cross_entropy(model(**one[i]).logits, targets[i : i + 1]) for i in range(size)]
    else:
        counts = counted(name, batch)
        placed = torch.full(counts.shape, -100)
        placed[counts] = drawn.targets[0]
        width = counts.shape[1]

        def token_loss(i: int) -> Tensor:
            return F.cross_entropy(model(**one[i]).logits[0, :width], placed[i], reduction="sum")

        losses = [lambda i=i: token_loss(i) for i in range(size)]
    truth = brute_force(model, layers, components, losses)
    assert truth.abs().max() > 1e-3
    assert gates.derivatives.shape == truth.shape
    assert (gates.derivatives - truth).abs().max() < 1e-8
    units = int(counted(name, batch).sum()) if name in ("tagging", "gpt2", "llama", "opt") else size
    assert gates.units == units
    wanted = truth.square().sum(0) / units
    assert torch.allclose(torch.cat(list(gates.fisher().values())), wanted, atol=1e-12, rtol=1e-8)


def test_labels_say_which_positions_count(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Drawn(monkeypatch)
    model, batch = adapted("gpt2"), token_batch()
    labels = torch.full_like(batch["input_ids"], -100)
    labels[:, 2:4] = 1
    gates, _, _ = found_gates(model, {**batch, "labels": labels})
    assert gates.units == 2 * len(labels) == len(drawn.targets[0])


@pytest.mark.parametrize("name", ["classification", "gpt2"])
def test_batches_of_any_size_give_the_same_examples(name: str) -> None:
    """Draws apart: the loss here has fixed targets."""
    model, batch = adapted(name), token_batch(padded=False)
    layers, components = measured_layers(model)

    def loss(each: Any, draws: torch.Generator) -> Sampled:
        logits = model(**each).logits
        return Sampled(F.cross_entropy(logits.flatten(0, -2), logits.flatten(0, -2).argmin(-1), reduction="sum"), 1)

    whole = measure_gates(model, layers, components, [(batch, rows_of(batch))], loss).derivatives
    single = [{key: value[i : i + 1] for key, value in batch.items()} for i in range(4)]
    parts = measure_gates(model, layers, components, [(each, rows_of(each)) for each in single], loss).derivatives
    assert torch.allclose(whole, parts, atol=1e-10)


class Checkpointed(nn.Module):
    """Calls its layers under gradient checkpointing, in evaluation mode too."""

    def __init__(self, *, recompute: bool) -> None:
        super().__init__()
        self.recompute = recompute
        self.first, self.second, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def block(self, x: Tensor) -> Tensor:
        return torch.tanh(self.second(torch.tanh(self.first(x))))

    def forward(self, x: Tensor) -> Tensor:
        hidden = checkpoint(self.block, x, use_reentrant=False) if self.recompute else self.block(x)
        found: Tensor = self.head(hidden).mean(1)
        return found


def test_gradient_checkpointing_counts_once() -> None:
    found = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = with_lora(Checkpointed(recompute=recompute), ["first", "second"]).double()
        batch = torch.randn(5, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        layers, components = measured_layers(model)
        predictive = Predictive(model, model.get_base_model(), "categorical")
        found.append(measure_gates(model, layers, components, [(batch, rows_of(batch))], predictive.sampled))
    assert found[0].derivatives.abs().max() > 1e-3
    assert torch.allclose(found[0].derivatives, found[1].derivatives, atol=1e-12)


def test_packed_rows_are_several_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Drawn(monkeypatch)
    model = adapted("llama")
    lengths, draws = (4, 6, 3), torch.Generator().manual_seed(2)
    examples = [torch.randint(3, 40, (1, length), generator=draws) for length in lengths]
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    batch = {"input_ids": torch.cat(examples, dim=1), "position_ids": positions}
    gates, layers, components = found_gates(model, batch)
    assert gates.derivatives.shape[0] == len(lengths)
    assert gates.units == sum(lengths) - len(lengths)
    targets = drawn.targets[0].split([length - 1 for length in lengths])
    losses = [
        lambda i=i: F.cross_entropy(model(input_ids=examples[i]).logits[0, :-1], targets[i], reduction="sum")
        for i in range(len(lengths))
    ]
    truth = brute_force(model, layers, components, losses)
    assert (gates.derivatives - truth).abs().max() < 1e-8


def test_the_model_is_as_before() -> None:
    model, batch = adapted("classification"), token_batch()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    before = {name: (p.detach().clone(), p.grad) for name, p in model.named_parameters()}
    state = torch.get_rng_state()
    found_gates(model, batch)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    for name, parameter in model.named_parameters():
        value, grad = before[name]
        assert torch.equal(parameter, value)
        assert parameter.grad is grad
        assert grad is None or bool((grad == 1).all())
    assert not any(layer._forward_hooks for layer in measured_layers(model)[0].values())


def test_a_frozen_adapter_is_measured_alike() -> None:
    model, batch = adapted("classification"), token_batch()
    expected, _, _ = found_gates(model, batch)
    model.requires_grad_(False)
    assert torch.equal(found_gates(model, batch)[0].derivatives, expected.derivatives)


def test_seeds_decide_the_draws() -> None:
    model, batch = adapted("tagging"), token_batch()
    first, again, other = (found_gates(model, batch, seed)[0].derivatives for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_draws_follow_the_prediction() -> None:
    logits = torch.tensor([0.5, -1.0, 0.2, 1.5], dtype=torch.float64).repeat(40_000, 1).requires_grad_()
    loss = sampled_categorical(logits, generator(3))
    (grad,) = torch.autograd.grad(loss, logits)
    probability = logits.detach()[0].softmax(-1)
    drawn = (probability - grad).mean(0)  # the gradient is p - one-hot
    assert torch.allclose(drawn, probability, atol=0.01)


def test_the_predicted_rise_is_the_measured_one_where_the_loss_is_quadratic() -> None:
    """A linear regression: with many draws the mean of c cᵀ is the Hessian, and closing gates costs half its form."""
    torch.manual_seed(0)
    model = with_lora(nn.Sequential(nn.Linear(5, 4)), ["0"], rank=3).double()
    x = torch.randn(400, 5, dtype=torch.float64)
    layers, components = measured_layers(model)
    predictive = Predictive(model, model.get_base_model(), "gaussian")
    batches = [(x, rows_of(x))] * 60
    gates = measure_gates(model, layers, components, batches, predictive.sampled)
    with torch.no_grad(), evaluating(model):
        before = model(x)
        for kept in ((), (0,), (0, 1), (1, 2), (0, 1, 2)):
            with closed(layers, components, {"0": kept}):
                measured = float((model(x) - before).square().sum()) / 2 / len(x)
            assert gates.rise({"0": kept}) == pytest.approx(measured, rel=0.05, abs=1e-12)


def test_the_rise_counts_cross_terms_and_the_scale() -> None:
    gates = Gates(torch.tensor([[1.0, 2.0, 5.0], [3.0, -1.0, 5.0]], dtype=torch.float64), {"a": 2, "b": 1}, 4, 2.0)
    assert gates.rise({"a": (), "b": (0,)}) == pytest.approx(2 * (9 + 4) / 8)
    assert gates.rise({"a": (0, 1), "b": (0,)}) == 0.0
    assert gates.fisher()["a"].tolist() == [10 / 4, 5 / 4]


def test_closed_gates_are_dropped_components() -> None:
    model, batch = adapted("gpt2"), token_batch()
    layers, components = measured_layers(model)
    kept = dict.fromkeys(components, (0,))
    with torch.no_grad(), evaluating(model):
        with closed(layers, components, kept):
            found = model(**batch).logits
        for name, layer in layers.items():
            a, b = components[name].factors((0,))
            layer.lora_A["default"].weight = nn.Parameter(a)
            layer.lora_B["default"].weight = nn.Parameter(b)
        assert torch.allclose(found, model(**batch).logits, atol=1e-10)


def test_rows_that_cannot_be_told_apart_are_refused() -> None:
    rows = Rows(3, 3, frozenset({4}))
    gate = torch.ones(3, 2)
    assert rows.spread(gate, (3, 4), "x").shape == (3, 1, 2)
    assert rows.spread(gate, (3,), "x").shape == (3, 2)
    assert rows.spread(torch.arange(3.0)[:, None], (12,), "x")[:5, 0].tolist() == [0, 0, 0, 0, 1]
    assert rows.spread(torch.arange(3.0)[:, None], (12, 9), "x")[:5, 0, 0].tolist() == [0, 0, 0, 0, 1]  # of 4 choices
    for shape in ((4, 3), (7,), (15,)):
        with pytest.raises(UserError, match=r"^experts.0 sees an input of shape .* give batches of one example each$"):
            rows.spread(gate, shape, "experts.0")
    assert Rows(1, 1).spread(torch.ones(1, 2), (7,), "x").shape == (1, 2)


def test_padding_on_the_left_does_not_make_rows_packed() -> None:
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    assert rows_of({"input_ids": mask, "position_ids": positions, "attention_mask": mask}).packed is None


def test_a_diverged_model_is_refused() -> None:
    model = adapted("classification")
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "lora_B" in name).fill_(float("nan"))
    with pytest.raises(RunError, match="query: the factors hold values that are not finite: the training has diverge"):
        components_of(measured_layers(model)[0])
