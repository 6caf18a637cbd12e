"""The adapter: ranks and scaling as asked for, the searched model exported, and stock PEFT reading it back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from autolora.allocation.components import factors_of, pairs
from autolora.errors import UserError
from autolora.lora.adapter import add_adapter, uses_conv1d
from autolora.lora.allocation import kept_components
from autolora.lora.config import lora_config
from autolora.lora.ranks import Ranks, Scaling
from autolora.lora.selection import selection_variables
from autolora.methods.searched import fill, head_state
from tests.model.tiny import ARCHITECTURES, collate, logits, tiny_examples, tiny_head, tiny_model, tiny_searched

K, ALPHA = 4, 16.0
BATCH = collate(tiny_examples(6, seed=2))


def _found(adapted: nn.Module) -> dict[str, tuple[int, float]]:
    """Rank and scaling of every adapted layer, from the weights' shapes and the layer's own factor."""
    return {
        name.removeprefix("base_model.model."): (
            layer.lora_A["default"].weight.shape[0],  # type: ignore[union-attr, index]
            layer.scaling["default"],
        )
        for name, layer in adapted.named_modules()
        if isinstance(layer, LoraLayer)
    }


def _ranks(by_name: dict[str, int], k: int = K, scaling: Scaling = "constant") -> Ranks:
    return Ranks(by_name, initial_rank=k, lora_alpha=ALPHA, scaling=scaling)


def _targets(layers: int, kinds: tuple[str, ...] = ("query", "value")) -> list[str]:
    return [f"bert.encoder.layer.{i}.attention.self.{kind}" for i in range(layers) for kind in kinds]


@pytest.mark.parametrize("scaling", ["constant", "per_rank"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_layer_gets_its_rank_and_scaling(name: str, scaling: Scaling) -> None:
    model = tiny_model(name)
    layers = list(tiny_searched(name)[1])
    ranks = _ranks({layer: i % (K + 1) for i, layer in enumerate(layers)}, scaling=scaling)  # the first has rank 0
    config = lora_config(ranks, fan_in_fan_out=uses_conv1d(model, layers))
    found = _found(add_adapter(model, ranks, config))
    assert found == {
        layer: (rank, ALPHA / K if scaling == "constant" else ALPHA / rank) for layer, rank in ranks.items() if rank
    }


def test_names_that_could_be_confused_get_their_own_ranks() -> None:
    # Layers 1, 10 and 11, and enough targets for PEFT to shorten the list of names.
    layers = _targets(12)
    ranks = _ranks({name: (i * 5) % 9 for i, name in enumerate(layers)}, 8)
    assert {ranks[name] for name in layers if ".layer.1" in name} >= {1, 2, 6}
    assert sum(rank > 0 for rank in ranks.values()) >= 20
    found = _found(add_adapter(tiny_model("bert", layers=12), ranks, lora_config(ranks)))
    assert {name: rank for name, (rank, _) in found.items()} == {n: r for n, r in ranks.items() if r}


def test_one_kept_layer_among_many_adapts_that_layer_alone() -> None:
    ranks = _ranks(dict.fromkeys(_targets(12), 0) | {"bert.encoder.layer.1.attention.self.query": 3}, 8)
    found = _found(add_adapter(tiny_model("bert", layers=12), ranks, lora_config(ranks)))
    assert found == {"bert.encoder.layer.1.attention.self.query": (3, ALPHA / 8)}


WRONG_PATTERNS = {
    "misspelt": lambda name: name.replace("layer", "layr"),
    "too wide": lambda name: r".*\.query",
    "another layer's": lambda name: name.replace(r"\.1\.", r"\.0\."),
}


@pytest.mark.parametrize("fault", WRONG_PATTERNS)
@pytest.mark.filterwarnings("ignore")  # PEFT only warns
def test_a_wrong_rank_pattern_is_an_error(fault: str) -> None:
    ranks = _ranks({name: i + 1 for i, name in enumerate(_targets(2, ("query",)))})
    config = lora_config(ranks)
    config.rank_pattern = {WRONG_PATTERNS[fault](name): rank for name, rank in config.rank_pattern.items()}
    with pytest.raises(RuntimeError, match=r"rank and scaling are \(\d, .*\), but should be"):
        add_adapter(tiny_model("bert"), ranks, config)


def test_a_wrong_target_is_an_error() -> None:
    ranks = _ranks(dict.fromkeys(_targets(2), 2))
    config = lora_config(ranks)
    config.target_modules = {"query"}
    with pytest.raises(RuntimeError, match=r"the adapter is on .*, but was meant for "):
        add_adapter(tiny_model("bert"), ranks, config)


def test_nothing_kept_is_the_users_to_mend() -> None:
    with pytest.raises(UserError, match=r"all ranks are 0, there is nothing to retrain; lower search.threshold"):
        lora_config(_ranks(dict.fromkeys(_targets(2), 0)))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_only_lora_and_head_are_trainable(name: str) -> None:
    adapted, head, ranks = _adapted(name)
    trainable = [n.removeprefix("base_model.model.") for n, p in adapted.named_parameters() if p.requires_grad]
    lora = [n for n in trainable if ".lora_" in n]
    assert len(lora) == 2 * sum(rank > 0 for rank in ranks.values())
    saved = {n.split(".modules_to_save.")[0] for n in trainable if n not in lora}
    assert saved == set(head)


def _adapted(name: str) -> tuple[PeftModel, list[str], Ranks]:
    model = tiny_model(name)
    layers = list(tiny_searched(name)[1])
    ranks = _ranks({layer: i % (K + 1) for i, layer in enumerate(layers)})
    head = tiny_head(model, name)
    config = lora_config(ranks, head=head, task_type="SEQ_CLS", fan_in_fan_out=name == "gpt2")
    return add_adapter(model, ranks, config), head, ranks


def _export(name: str, constraint: str = "softmax") -> tuple[PreTrainedModel, PeftModel, torch.Tensor]:
    """A fresh base, the exported adapter, and the logits of the searched model with dropped components removed."""
    model, layers, head = tiny_searched(name, constraint=constraint)
    selection = selection_variables({n: layer.selection_logits for n, layer in layers.items()}, constraint)
    kept = kept_components(selection, constraint)
    kept[next(iter(layers))] = ()  # one layer of rank 0
    every = logits(model.eval(), BATCH).detach()
    with torch.no_grad():
        whole = {n: layer.lora_B.clone() for n, layer in layers.items()}
        for n, layer in layers.items():
            layer.lora_B[:, [j for j in range(K) if j not in kept[n]]] = 0
        truth = logits(model, BATCH)
        for n, layer in layers.items():
            layer.lora_B.copy_(whole[n])
    assert float((truth - every).abs().max()) > 1e-3  # something was dropped
    ranks = Ranks({n: len(indices) for n, indices in kept.items()}, initial_rank=K, lora_alpha=ALPHA, kept=kept)
    columns = {n: pairs(factors_of(n, layer)) for n, layer in layers.items()}
    config = lora_config(
        ranks, head=head, task_type="SEQ_CLS", fan_in_fan_out=uses_conv1d(tiny_model(name), list(ranks))
    )
    exported = add_adapter(tiny_model(name), ranks, config).eval()
    fill(exported, ranks, columns, head_state(model, head), head)
    assert sum(rank for rank, _ in _found(exported).values()) == sum(map(len, kept.values()))
    return tiny_model(name).eval(), exported, truth


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_export_is_the_searched_model_without_the_dropped_components(name: str, tmp_path: Path) -> None:
    base, exported, truth = _export(name)
    with torch.no_grad():
        assert float((logits(base, BATCH) - truth).abs().max()) > 1e-2
        assert torch.allclose(logits(exported, BATCH), truth, atol=1e-6)
        exported.save_pretrained(tmp_path, save_embedding_layers=False)
        # Another head than the run's: the adapter has to bring its own.
        for parameter in (p for h in tiny_head(base, name) for p in base.get_submodule(h).parameters()):
            parameter.normal_()
        loaded = PeftModel.from_pretrained(base, tmp_path).eval()
        assert torch.allclose(logits(loaded, BATCH), truth, atol=1e-6)
        assert torch.allclose(logits(loaded.merge_and_unload(), BATCH), truth, atol=2e-6)


@pytest.mark.parametrize("constraint", ["sigmoid", "none"])
def test_the_export_knows_every_constraint(constraint: str) -> None:
    _, exported, truth = _export("bert", constraint)
    assert torch.allclose(logits(exported, BATCH), truth, atol=1e-6)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_retrained_adapter_is_reloaded_and_merged_by_stock_peft(name: str, tmp_path: Path) -> None:
    adapted, _, _ = _adapted(name)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        truth = logits(adapted.eval(), BATCH)
        adapted.save_pretrained(tmp_path, save_embedding_layers=False)
        loaded = PeftModel.from_pretrained(tiny_model(name), tmp_path).eval()
        assert torch.equal(logits(loaded, BATCH), truth)
        assert torch.allclose(logits(loaded.merge_and_unload(), BATCH), truth, atol=1e-5)
