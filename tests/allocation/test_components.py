"""The decomposition against NumPy's of the whole update, and factors that give it back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from autolora.allocation.components import Factors, components_of, decompose, spectrum
from autolora.errors import UserError
from autolora.lora.adapter import lora_layers
from autolora.lora.selection import add_selection
from tests.allocation.models import adapted, with_lora


@pytest.mark.parametrize(("m", "n", "k"), [(7, 5, 3), (5, 9, 5), (2, 9, 4), (6, 3, 4), (1, 1, 1)])
def test_it_is_the_svd_of_the_update(m: int, n: int, k: int) -> None:
    draws = torch.Generator().manual_seed(m * n)
    a = torch.randn(k, n, generator=draws, dtype=torch.float64)
    b = torch.randn(m, k, generator=draws, dtype=torch.float64)
    found = decompose(Factors(a, b, 2.5))
    update = 2.5 * (b @ a).numpy()
    sigma = np.linalg.svd(update, compute_uv=False)[: min(m, n, k)]
    assert np.allclose(found.sigma.numpy(), sigma, atol=1e-12)
    whole = (found.u * found.sigma) @ found.v.T
    assert np.allclose(whole.numpy(), update, atol=1e-12)
    assert torch.allclose(found.u.T @ found.u, torch.eye(len(found), dtype=torch.float64), atol=1e-12)
    assert found.shape == (n, m)
    assert found.cost == n + m
    assert found.rank == k
    new_a, new_b = found.factors(range(len(found)))
    assert np.allclose(2.5 * (new_b @ new_a).numpy(), update, atol=1e-12)
    assert torch.allclose(new_a @ new_a.T, new_b.T @ new_b, atol=1e-10)  # balanced


def test_components_that_are_zero_are_none() -> None:
    draws = torch.Generator().manual_seed(0)
    a, b = torch.randn(4, 6, generator=draws), torch.randn(5, 4, generator=draws)
    assert len(decompose(Factors(a, torch.zeros(5, 4), 1.0))) == 0
    b[:, 1] = b[:, 0]
    a[2] = 0.0
    assert len(decompose(Factors(a.double(), b.double(), 1.0))) == 2


@pytest.mark.parametrize("name", ["classification", "gpt2"])
def test_peft_layers_are_read_as_peft_merges_them(name: str) -> None:
    model = adapted(name)
    layers = lora_layers(model)
    for layer_name, each in components_of(layers).items():  # type: ignore[arg-type]
        layer = layers[layer_name]
        update = layer.get_delta_weight("default").detach()  # type: ignore[operator]
        update = update.T if layer.fan_in_fan_out else update  # type: ignore[attr-defined]
        assert torch.allclose((each.u * each.sigma) @ each.v.T, update, atol=1e-12)


def test_selection_variables_are_part_of_the_update() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4)).double()
    (layer,) = add_selection(model, ["0"], rank=3, lora_alpha=6.0).values()
    with torch.no_grad():
        layer.lora_B.normal_()
        layer.selection_logits.normal_()
    found = components_of({"0": layer})["0"]
    update = 2.0 * layer.lora_B @ torch.diag(layer.selection()) @ layer.lora_A
    assert torch.allclose((found.u * found.sigma) @ found.v.T, update.detach(), atol=1e-12)


def test_variants_of_lora_are_refused() -> None:
    dora = with_lora(nn.Sequential(nn.Linear(5, 4)), ["0"], use_dora=True)
    with pytest.raises(UserError, match=r"^0: only a plain LoRA on a linear layer can be decomposed"):
        components_of(lora_layers(dora))  # type: ignore[arg-type]
    embedding = with_lora(nn.Sequential(nn.Embedding(5, 4)), ["0"])
    with pytest.raises(UserError, match=r"^0: there must be one adapter, and active, got none on a linear layer"):
        components_of(lora_layers(embedding))  # type: ignore[arg-type]
    merged = with_lora(nn.Sequential(nn.Linear(5, 4)), ["0"])
    merged.merge_adapter()
    with pytest.raises(UserError, match=r"^0: the adapter is merged .*; call unmerge_adapter\(\) first"):
        components_of(lora_layers(merged))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^0 is a Linear, and no LoRA layer$"):
        components_of({"0": nn.Linear(2, 2)})


def test_the_spectrum_alone_is_that_of_the_decomposition() -> None:
    generator = torch.Generator().manual_seed(0)
    for n, m, k in ((30, 20, 4), (3, 20, 8), (20, 5, 8)):
        a, b = torch.randn(k, n, generator=generator), torch.randn(m, k, generator=generator)
        b[:, 1] = 0
        factors = Factors(a, b, 1.5)
        assert torch.allclose(spectrum(factors), decompose(factors).sigma, rtol=1e-12)
    assert not len(spectrum(Factors(a, b, 0.0)))
