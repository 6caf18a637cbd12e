"""An adapter is on exactly the layers that its ranks name, whatever ends in their names, in stock PEFT too."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from autolora.lora.adapter import add_adapter, lora_layers, save_adapter
from autolora.lora.config import anchored, exact_targets, lora_config, matched, target_expression
from autolora.lora.loading import adapter_shapes, load_adapter
from autolora.lora.ranks import Ranks
from autolora.lora.stored import rank_in, read_config
from tests.model.folders import write_model


class Block(nn.Module):
    """Layers of which two names end in another's, and of which one begins with another's."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.query, self.qxq = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Of vectors (…, 4)."""
        return self.qxq(torch.tanh(self.query(torch.tanh(self.q(x)))))  # type: ignore[no-any-return]


class Twice(nn.Module):
    """q, block.q, block.block.q and others."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block()
        self.block.add_module("block", Block())
        self.q = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Of vectors (…, 4)."""
        return self.block(self.block.get_submodule("block")(torch.tanh(self.q(x))))  # type: ignore[no-any-return]


ALL = ["block.q", "block.query", "block.qxq", "block.block.q", "block.block.query", "block.block.qxq", "q"]
X = torch.linspace(-1, 1, 12).reshape(3, 4)


def fresh() -> Twice:
    torch.manual_seed(0)
    return Twice()


def of(**by_name: int) -> Ranks:
    """Ranks of these layers, dots written as two underscores, and 0 of all others."""
    given = {name.replace("__", "."): rank for name, rank in by_name.items()}
    return Ranks({name: given.get(name, 0) for name in ALL}, 4, 8.0)


def trained(ranks: Ranks, config: LoraConfig | None = None) -> PeftModel:
    """A model whose adapter changes what it computes."""
    adapted: PeftModel = add_adapter(fresh(), ranks, config or lora_config(ranks))  # type: ignore[arg-type]
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter)
    return adapted.eval()


CASES = [
    of(q=2),
    of(block__q=2),
    of(block__block__q=1, q=3),
    of(q=1, block__q=2, block__block__q=3),
    of(q=1, block__query=2),
    of(block__qxq=4, q=2, block__block__query=1),
]


@pytest.mark.parametrize("ranks", CASES, ids=lambda ranks: "+".join(ranks.targets))
def test_a_layer_whose_name_ends_in_anothers_is_left_alone_by_stock_peft(ranks: Ranks, tmp_path: Path) -> None:
    plain = get_peft_model(fresh(), lora_config(ranks))  # type: ignore[arg-type]
    assert {name: layer.r["default"] for name, layer in lora_layers(plain).items()} == {
        name: rank for name, rank in ranks.items() if rank
    }
    model = trained(ranks)
    model.save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.glob("adapter*")) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    wanted = model(X)
    assert not torch.allclose(wanted, fresh()(X), atol=1e-3)
    for options in ({}, {"torch_device": "cpu"}):
        loaded = PeftModel.from_pretrained(fresh(), tmp_path, **options).eval()  # type: ignore[arg-type]
        torch.testing.assert_close(loaded(X), wanted, rtol=0, atol=1e-6)
    assert set(lora_layers(loaded)) == set(ranks.targets)
    merged = loaded.merge_and_unload()
    assert not any(isinstance(module, LoraLayer) for module in merged.modules())
    torch.testing.assert_close(merged(X), wanted, rtol=0, atol=1e-5)
    for name in ALL:
        same = torch.equal(merged.get_submodule(name).weight, fresh().get_submodule(name).weight)  # type: ignore[arg-type]
        assert same == (not ranks[name]), name


@pytest.mark.parametrize("ranks", CASES, ids=lambda ranks: "+".join(ranks.targets))
def test_the_stored_configuration_gives_every_layer_its_rank_as_peft_does(ranks: Ranks) -> None:
    config = json.loads(json.dumps(lora_config(ranks).to_dict(), default=str))
    assert {name: rank_in(config, name) for name in ALL} == dict(ranks)
    assert matched(config["target_modules"], ALL) == [name for name in ALL if ranks[name]]


@pytest.mark.parametrize("ranks", [of(q=2, block__q=2, block__block__q=2), of(block__q=3, block__block__q=1)])
def test_an_adapter_with_a_list_of_names_still_loads(ranks: Ranks, tmp_path: Path) -> None:
    model = trained(ranks)
    model.save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["target_modules"] = sorted(ranks.targets)
    path.write_text(json.dumps(config), encoding="utf-8")
    assert {name: rank_in(config, name) for name in ALL} == dict(ranks)
    ours = add_adapter(fresh(), ranks, lora_config(ranks))  # type: ignore[arg-type]
    load_adapter(ours, tmp_path, adapter_shapes(fresh(), ranks, []), ranks, [])
    torch.testing.assert_close(ours(X), model(X), rtol=0, atol=1e-6)


def test_what_is_written_is_one_expression_anchored_at_both_ends(tmp_path: Path) -> None:
    write_model(tmp_path / "base", "bert")
    from transformers import AutoModel

    model = AutoModel.from_pretrained(tmp_path / "base")
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    assert len(names) == 13
    ranks = Ranks({name: i % 3 for i, name in enumerate(names)}, 4, 8.0)
    save_adapter(add_adapter(model, ranks, lora_config(ranks)), tmp_path / "adapter", "base")
    stored = read_config(tmp_path / "adapter")["target_modules"]
    assert stored == target_expression(ranks.targets)
    assert re.search(stored, f"x.{ranks.targets[0]}") is None
    assert re.search(stored, f"{ranks.targets[0]}.x") is None
    assert re.search(stored, ranks.targets[0].replace(".", "x")) is None


@pytest.mark.parametrize(
    ("key", "other"), [("a.q", "b.a.q"), ("a.q", "a.query"), ("a.q", "axq"), ("a.q", "a.q.q"), ("q", "a.q")]
)
def test_a_pattern_of_ranks_means_one_full_name(key: str, other: str) -> None:
    from peft.utils.other import get_pattern_key

    assert get_pattern_key([anchored(key)], key) == anchored(key)
    assert get_pattern_key([anchored(key)], other) == other  # what PEFT gives for no match


def test_experts_that_are_one_weight_do_not_widen_the_targets(tmp_path: Path) -> None:
    """PEFT reduces an expression to the last parts of names on such a model, and would adapt all of these."""
    from transformers import AutoModelForCausalLM

    folder = write_model(tmp_path / "base", "mixtral", "AutoModelForCausalLM")

    def base() -> Any:
        return AutoModelForCausalLM.from_pretrained(folder).eval()

    names = [f"model.layers.{i}.self_attn.{kind}_proj" for i in (0, 1) for kind in "qv"]
    ranks = Ranks(dict(zip(names, (2, 0, 1, 3), strict=True)), 4, 8.0)
    assert exact_targets(base(), ranks.targets) == ranks.targets
    adapted = add_adapter(base(), ranks, lora_config(ranks))  # raises where it is on other layers
    nn.init.normal_(adapted.get_submodule(f"base_model.model.{names[0]}").lora_B["default"].weight)
    save_adapter(adapted, tmp_path / "adapter", "base")
    tokens = torch.tensor([[1, 5, 6, 7]])
    stock = PeftModel.from_pretrained(base(), tmp_path / "adapter").eval()
    assert set(lora_layers(stock)) == set(ranks.targets)
    torch.testing.assert_close(stock(tokens).logits, adapted.eval()(tokens).logits, rtol=0, atol=1e-5)
