"""Rows that a shape alone does not tell apart: the result is that of batches of one example, or it is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMultipleChoice

import autolora
from autolora.allocation.gates import measure_gates
from autolora.allocation.likelihood import Predictive
from autolora.allocation.rows import UntoldError, apart, rows_of
from autolora.allocation.told import untold
from autolora.errors import UserError
from tests.allocation.models import _ENCODER, VOCABULARY, adapted, measured_layers, token_batch, with_lora

WIDTH = 8


class Part(nn.Module):
    """(examples, positions, features) to three outputs an example."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def hidden(self, x: Tensor) -> Tensor:
        return torch.tanh(self.inside(x))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.hidden(x).mean(1))
        return found


class PositionsFirst(Part):
    def hidden(self, x: Tensor) -> Tensor:
        return torch.tanh(self.inside(x.transpose(0, 1))).transpose(0, 1)


class FlattenedPositionsFirst(Part):
    def hidden(self, x: Tensor) -> Tensor:
        flat = torch.tanh(self.inside(x.transpose(0, 1).flatten(0, 1)))
        return flat.view(x.shape[1], x.shape[0], -1).transpose(0, 1)


class Routed(Part):
    """Half of the positions, whoever they belong to, go through the layer."""

    def hidden(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        chosen = flat[:, 0] > 0
        return flat.masked_scatter(chosen[:, None], torch.tanh(self.inside(flat[chosen]))).view_as(x)


class Shared(Part):
    """A table that all examples have in common goes through the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(1, 20, WIDTH))

    def hidden(self, x: Tensor) -> Tensor:
        return torch.tanh(x + self.inside(self.table[:, : x.shape[1]]))


class SharedWithoutExamples(Shared):
    def hidden(self, x: Tensor) -> Tensor:
        return torch.tanh(x + self.inside(self.table[0, : x.shape[1]]))


class Masked(Part):
    """Takes a mask of positions along, the same for all examples."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(mask @ x)


def made(kind: type[Part]) -> Any:
    torch.manual_seed(0)
    return with_lora(kind(), ["inside", "head"]).double()


def derivatives(model: Any, batches: list[Any]) -> Tensor:
    layers, components = measured_layers(model)
    loss = Predictive(model, model.get_base_model(), _fixed).sampled
    return measure_gates(model, layers, components, [(each, rows_of(each)) for each in batches], loss).derivatives


def _fixed(means: Tensor) -> Tensor:
    """A loss without draws."""
    return (means - 1).square().sum()


KINDS = [PositionsFirst, FlattenedPositionsFirst, Routed, Shared, SharedWithoutExamples]


@pytest.mark.parametrize("positions", [5, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_batch_does_not_tell_is_measured_example_by_example(kind: type[Part], positions: int) -> None:
    x = torch.randn(5, positions, WIDTH, generator=torch.Generator().manual_seed(2)).double()
    found, wanted = made(kind), made(kind)
    ranks = autolora.squeeze(found, [x], 0.5, likelihood="gaussian")
    expected = autolora.squeeze(wanted, list(x.split(1)), 0.5, likelihood="gaussian")
    assert dict(ranks) == dict(expected)
    assert ranks.rule["predicted_rise"] == pytest.approx(expected.rule["predicted_rise"], rel=1e-12)
    for name, value in found.state_dict().items():
        assert torch.equal(value, wanted.state_dict()[name])


@pytest.mark.parametrize("positions", [5, 7])
def test_what_a_batch_tells_is_measured_in_one(positions: int) -> None:
    model, x = made(Part), torch.randn(5, positions, WIDTH).double()
    layers, components = measured_layers(model)
    calls: list[int] = []
    model.base_model.model.head.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    loss = Predictive(model, model.get_base_model(), "gaussian").sampled
    assert untold(model, layers, components, x, rows_of(x), loss) is None
    assert calls == [5, 5]
    assert torch.allclose(derivatives(model, [x]), derivatives(model, list(x.split(1))), atol=1e-12)


@pytest.mark.parametrize("name", ["classification", "regression", "tagging", "albert", "gpt2", "llama", "opt"])
@pytest.mark.parametrize("count", [4, 7])
def test_the_layers_of_usual_models_follow_their_examples(name: str, count: int) -> None:
    model, batch = adapted(name), token_batch(count=count, width=7)
    layers, components = measured_layers(model)
    loss = Predictive(model, model.get_base_model()).sampled
    assert untold(model, layers, components, batch, rows_of(batch), loss) is None


@pytest.mark.parametrize(("examples", "choices"), [(5, 3), (3, 3), (2, 4)])
def test_the_choices_of_an_example_are_its_own(examples: int, choices: int) -> None:
    model: Any = with_lora(BertForMultipleChoice(BertConfig(**_ENCODER)), ["query", "bert.pooler.dense"]).double()
    draws = torch.Generator().manual_seed(3)
    ids = torch.randint(3, VOCABULARY, (examples, choices, 7), generator=draws)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0, 0] % choices}
    layers, components = measured_layers(model)
    loss = Predictive(model, model.get_base_model()).sampled
    assert untold(model, layers, components, batch, rows_of(batch), loss) is None
    single = [{name: value[i : i + 1] for name, value in batch.items()} for i in range(examples)]
    assert torch.allclose(derivatives(model, [batch]), derivatives(model, single), atol=1e-12)


@pytest.mark.parametrize("positions", [5, 7])
def test_a_mask_of_positions_is_no_row_of_an_example(positions: int) -> None:
    x, mask = torch.randn(5, positions, WIDTH).double(), torch.ones(positions, positions).tril().double()
    model = made(Masked)
    layers, components = measured_layers(model)
    loss = Predictive(model, model.get_base_model(), "gaussian").sampled
    assert untold(model, layers, components, (x, mask), rows_of((x, mask)), loss) is None
    whole = derivatives(model, [(x, mask)])
    assert torch.allclose(whole, derivatives(model, [(each, mask) for each in x.split(1)]), atol=1e-12)


class WithImages(nn.Module):
    """Images of all examples come in one, each example's as many as it says, as vision-language models have them."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, counts: Tensor, images: Tensor) -> Tensor:
        owner = torch.arange(len(x)).repeat_interleave(counts)
        seen = torch.zeros_like(x[:, 0]).index_add(0, owner, images)
        found: Tensor = torch.tanh(self.inside(x + seen[:, None]))
        return found.sum(-1)


def test_a_batch_whose_rows_cannot_be_reordered_is_measured_where_its_shapes_are_clear() -> None:
    torch.manual_seed(0)
    model: Any = with_lora(WithImages(), ["inside"]).double()
    x, counts, images = torch.randn(3, 4, WIDTH).double(), torch.tensor([2, 0, 3]), torch.randn(5, WIDTH).double()
    parts = [(x[:1], counts[:1], images[:2]), (x[1:2], counts[1:2], images[:0]), (x[2:], counts[2:], images[2:])]
    assert torch.allclose(derivatives(model, [(x, counts, images)]), derivatives(model, [*parts]), atol=1e-12)
    autolora.squeeze(model, [(x, counts, images)], 0.5, likelihood="gaussian")


class MaskedPositionsFirst(Masked, PositionsFirst):
    """Neither can be told."""


def test_a_batch_that_cannot_be_taken_apart_is_refused() -> None:
    x, model = torch.randn(5, 5, WIDTH).double(), made(MaskedPositionsFirst)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    said = r"inside sees an input of shape \(5, 5\) for 5 examples that does not follow their order, and which row "
    with pytest.raises(UserError, match=said + "belongs to which cannot be told; give batches of one example each$"):
        autolora.squeeze(model, [(x, torch.ones(5, 5).tril().double())], likelihood="gaussian")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_batches_are_taken_apart_by_their_rows() -> None:
    batch = {"x": torch.arange(6).view(3, 2), "y": torch.arange(3), "scale": torch.tensor(2.0), "flag": True}
    parts = apart(batch, rows_of(batch)) or []
    assert [part["x"].tolist() for part in parts] == [[[0, 1]], [[2, 3]], [[4, 5]]]
    assert [part["y"].tolist() for part in parts] == [[0], [1], [2]]
    assert all(part["flag"] is True and float(part["scale"]) == 2 for part in parts)
    for other in (torch.ones(4, 2), ["a", "b", "c"], {"deep": torch.ones(3)}, torch.ones(3, 3)):
        mixed = {**batch, "other": other}
        assert apart(mixed, rows_of(mixed)) is None


def test_it_is_an_error_of_the_users() -> None:
    assert issubclass(UntoldError, UserError)
