"""`autolora.squeeze` on PEFT models: the same outputs, the budget kept, saved and loaded, and trained on."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

import autolora
from autolora.allocation.components import components_of
from autolora.errors import UserError
from autolora.lora.adapter import lora_layers
from tests.allocation.models import BUILD, adapted, batches, plain, randomise, token_batch, with_lora

NAMES = list(BUILD)


def outputs(model: Any, batch: dict[str, Tensor]) -> Tensor:
    mode = model.training
    with torch.no_grad():
        found: Tensor = model.eval()(**batch).logits
    model.train(mode)
    return found


def lora_parameters(model: nn.Module) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)


@pytest.mark.parametrize("name", NAMES)
def test_with_nothing_dropped_it_is_the_same_model(name: str) -> None:
    model, batch = adapted(name, dtype=torch.float32), token_batch()
    before, size = outputs(model, batch), lora_parameters(model)
    ranks = autolora.squeeze(model, batches(), budget=1.0)
    assert (outputs(model, batch) - before).abs().max() < 1e-5
    assert ranks.parameters == lora_parameters(model) <= size
    assert ranks.rule["predicted_rise"] == 0.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("merged", [False, True])
def test_it_is_saved_and_loaded(name: str, merged: bool, tmp_path: Path) -> None:
    model, batch = adapted(name, dtype=torch.float32), token_batch()
    torch.manual_seed(0)
    base = BUILD[name][0]()
    full = lora_parameters(model)
    ranks = autolora.squeeze(model, batches(), budget=0.3)
    assert 0 in ranks.values()
    assert len(set(ranks.values())) > 2 or name in ("regression", "albert")
    assert ranks.parameters == lora_parameters(model) <= 0.3 * full
    found = outputs(model, batch)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base, tmp_path)
    assert dict(ranks) == {
        name: lora_layers(loaded)[name].r["default"] if name in lora_layers(loaded) else 0 for name in ranks
    }
    if merged:
        loaded, model = loaded.merge_and_unload(), model.merge_and_unload()
    assert (outputs(loaded, batch) - found).abs().max() < 1e-5
    assert (outputs(model, batch) - found).abs().max() < 1e-5


def test_training_goes_on_with_the_mended_optimizer() -> None:
    model = adapted("classification", dtype=torch.float32)
    for parameter in model.base_model.model.classifier.parameters():  # type: ignore[union-attr]
        parameter.requires_grad_(True)
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    head = [p for name, p in named.items() if "classifier" in name]
    groups = [{"params": [p for p in named.values() if p not in set(head)]}, {"params": head, "lr": 1e-3}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2)
    data = [{**batch, "labels": torch.tensor([0, 1, 2, 0])} for batch in batches()]
    _steps(model, optimizer, data)
    state = {p: optimizer.state[p] for p in head}
    held = _steps(model, optimizer, data)  # the last loss, and its graph, are alive, as in many a training loop
    ranks = autolora.squeeze(model, data, budget=0.4, optimizer=optimizer)
    assert 0 in ranks.values()
    trained = {p for p in model.parameters() if p.requires_grad}
    assert {p for group in optimizer.param_groups for p in group["params"]} == trained
    assert optimizer.param_groups[1]["params"] == head
    assert set(optimizer.state) == set(head)
    assert all(optimizer.state[p] is state[p] for p in head)
    before = {p: p.detach().clone() for p in trained}
    _steps(model, optimizer, data)
    assert held.isfinite()
    assert all(not torch.equal(p, before[p]) for p in trained)
    assert {int(optimizer.state[p]["step"]) for p in trained - set(head)} == {3}
    assert {int(optimizer.state[p]["step"]) for p in head} == {9}


def _steps(model: nn.Module, optimizer: torch.optim.Optimizer, data: list[dict[str, Tensor]]) -> Tensor:
    loss = torch.zeros(())
    for batch in data:
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss


def test_the_configuration_that_the_model_was_made_with_stays_as_it_is() -> None:
    config = LoraConfig(r=3, lora_alpha=6, target_modules=["query"])
    model = get_peft_model(BUILD["classification"][0](), config)
    randomise(model)
    before = config.to_dict()
    autolora.squeeze(model, batches(), budget=0.5)
    assert config.to_dict() == before
    assert model.peft_config["default"].to_dict() != before


def test_it_can_be_done_twice() -> None:
    model = adapted("llama", dtype=torch.float32)
    first = autolora.squeeze(model, batches(), budget=0.5)
    second = autolora.squeeze(model, batches(), budget={"parameters": first.parameters // 2})
    assert 0 < second.parameters <= first.parameters // 2
    assert set(second) == set(first.targets)
    assert all(second[name] <= first[name] for name in second)
    assert second.parameters == lora_parameters(model)


def test_a_seed_gives_the_same_ranks_and_weights() -> None:
    found = []
    for _ in range(2):
        model = adapted("tagging", dtype=torch.float32)
        torch.manual_seed(len(found))  # whatever the state of torch's own generator
        ranks = autolora.squeeze(model, batches(), budget=0.5, seed=4)
        found.append((ranks, model.state_dict()))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(value, found[1][1][key]) for key, value in found[0][1].items())


@pytest.mark.parametrize("rank", [1, 2])
def test_a_rank_is_as_many_parameters_as_that_rank_everywhere(rank: int) -> None:
    model = adapted("gpt2", dtype=torch.float32)
    ranks = autolora.squeeze(model, batches(), budget={"rank": rank})
    limit = rank * sum(n + m for n, m in ranks.shapes.values())
    assert limit - max(n + m for n, m in ranks.shapes.values()) < ranks.parameters <= limit


def test_a_tolerance_finds_the_size() -> None:
    sizes = []
    for tolerance in (0.001, 0.9):
        model = adapted("classification", dtype=torch.float32)
        data = [{**batch, "labels": outputs(model, batch).argmax(-1)} for batch in batches()]

        def mean(each: Any, data: list[dict[str, Tensor]] = data) -> float:
            with torch.no_grad():
                return sum(float(each(**batch).loss) for batch in data) / len(data)

        model.eval()
        now = mean(model)
        with model.disable_adapter():
            gain = mean(model) - now
        ranks = autolora.squeeze(model, data, budget={"tolerance": tolerance})
        rise = mean(model) - now
        assert rise == pytest.approx(ranks.rule["measured_rise"], abs=1e-5)
        assert rise <= tolerance * gain + 1e-6
        sizes.append(ranks.parameters)
    assert sizes[1] < sizes[0]


def test_what_other_configurations_say_is_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = BUILD["classification"][0]()
    clean = copy.deepcopy(base)
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["query", "value"],
        rank_pattern={"layer.1.attention.self.query": 2},
        use_rslora=True,
        layers_to_transform=[0, 1],
        layers_pattern="layer",
        modules_to_save=["classifier"],
        task_type="SEQ_CLS",
    )
    model, batch = get_peft_model(base, config), token_batch()
    randomise(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    scalings = {name: layer.scaling["default"] for name, layer in lora_layers(model).items()}
    before = outputs(model, batch)
    ranks = autolora.squeeze(model, batches(), budget=1.0)
    assert ranks.rule["scalings"] == scalings
    fresh = get_peft_model(copy.deepcopy(clean), ranks.to_lora_config())
    found = {name: layer.scaling["default"] for name, layer in lora_layers(fresh).items()}
    assert found == pytest.approx(scalings)  # not one for all
    assert {name: layer.scaling["default"] for name, layer in lora_layers(model).items()} == scalings
    assert (outputs(model, batch) - before).abs().max() < 1e-5
    autolora.squeeze(model, batches(), budget=0.4)
    before = outputs(model, batch)
    model.save_pretrained(tmp_path)
    assert (outputs(PeftModel.from_pretrained(clean, tmp_path), batch) - before).abs().max() < 1e-5


class Nested(nn.Module):
    """A module named as the end of another's name: PEFT's lists of names would adapt both."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.ModuleDict({"q": nn.Linear(6, 6)})
        self.q = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.q(torch.tanh(self.block["q"](x)))
        return found


def test_names_that_end_alike_are_told_apart(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = Nested()
    clean = copy.deepcopy(base)
    model = with_lora(base, ["q"], rank=2)
    with torch.no_grad():
        lora_layers(model)["block.q"].lora_B["default"].weight.mul_(1e-6)  # type: ignore[union-attr, operator]
    x = torch.randn(20, 6)
    ranks = autolora.squeeze(model, [x], budget=0.4, likelihood="gaussian")
    assert ranks["block.q"] == 0 < ranks["q"]
    found = model(x)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(clean, tmp_path)  # type: ignore[arg-type]
    assert list(lora_layers(loaded)) == ["q"]
    assert torch.allclose(loaded(x), found, atol=1e-6)


@pytest.mark.parametrize(
    "likelihood",
    [
        "categorical",
        "gaussian",
        lambda logits: torch.distributions.Categorical(logits=logits),
        lambda mean: torch.distributions.Poisson(mean.exp()),
        lambda mean: (mean - mean.detach() - torch.randn_like(mean)).square() / 2,
    ],
)
def test_any_module_with_a_likelihood_is_squeezed(likelihood: Any) -> None:
    data = [torch.randn(10, 6, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    found = []
    for _ in range(2):
        model = plain()
        state = torch.get_rng_state()
        found.append(autolora.squeeze(model, data, budget=0.5, likelihood=likelihood))
        assert torch.equal(torch.get_rng_state(), state)
    assert found[0] == found[1]
    assert found[0].rule["predicted_rise"] > 0


def test_a_function_and_the_name_of_one_likelihood_agree() -> None:
    data = [torch.randn(4000, 6, generator=torch.Generator().manual_seed(1))]
    rises = [
        autolora.squeeze(plain(), data, budget=0.4, likelihood=likelihood).rule["predicted_rise"]
        for likelihood in ("gaussian", lambda mean: torch.distributions.Normal(mean, 1.0))
    ]
    assert rises[0] == pytest.approx(rises[1], rel=0.1)


def test_of_a_tuple_the_model_gets_what_it_takes() -> None:
    x = torch.randn(30, 6, generator=torch.Generator().manual_seed(1))
    model = plain()
    alone = autolora.squeeze(model, [x], likelihood="categorical")
    model = with_lora(Nested(), ["q"])
    first = autolora.squeeze(copy.deepcopy(model), [x], likelihood="categorical")
    assert first == autolora.squeeze(model, [(x, torch.zeros(30))], likelihood="categorical")
    assert alone.parameters > 0
    with pytest.raises(UserError, match=r"^a batch of one of transformers' models is a mapping of tensors"):
        autolora.squeeze(adapted("gpt2"), [(x, x)])


def test_only_the_first_examples_are_used() -> None:
    def endless() -> Iterator[Tensor]:
        for i in range(8):
            yield torch.randn(10, 6, generator=torch.Generator().manual_seed(i))
        raise AssertionError("too many")

    autolora.squeeze(plain(), endless(), likelihood="gaussian", examples=75)


def test_bfloat16_weights_are_squeezed() -> None:
    model = adapted("llama", dtype=torch.bfloat16)
    ranks = autolora.squeeze(model, batches(), budget=0.5)
    assert 0 < ranks.parameters == lora_parameters(model)
    assert all(p.dtype == torch.bfloat16 for p in model.parameters())


def test_the_spectrum_keeps_the_most_energy() -> None:
    model = adapted("gpt2", dtype=torch.float32)
    components = components_of(lora_layers(model))  # type: ignore[arg-type]
    ranks = autolora.squeeze(model, batches(), budget={"rank": 1}, score="spectrum")
    worth = {
        (name, i): float(s) ** 2 / each.cost for name, each in components.items() for i, s in enumerate(each.sigma)
    }
    best = max(worth, key=lambda place: worth[place])
    assert best[1] in ranks.kept[best[0]]
    kept = [worth[name, i] for name, each in ranks.kept.items() for i in each]
    assert min(kept) >= sorted(worth.values())[-len(kept) - 2]
