"""The selection layer, with PEFT's own LoRA layer as truth."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from autolora.errors import UserError
from autolora.lora.selection import CONSTRAINTS, SelectionLoRA, add_selection, selection_logits
from tests.model.tiny import ARCHITECTURES, collate, logits, summed_loss, tiny_examples, tiny_model, tiny_searched

N, M, K, ALPHA = 6, 10, 4, 16.0
LINEARS = {"linear": lambda: nn.Linear(N, M), "linear without bias": lambda: nn.Linear(N, M, bias=False)} | {
    "Conv1D": lambda: Conv1D(M, N)
}


def _drawn(base: nn.Module, constraint: str = "softmax", dropout: float = 0.0) -> SelectionLoRA:
    """A float64 layer with every value drawn, and frozen as in a search."""
    base = base.double().requires_grad_(False)
    layer = SelectionLoRA(base, K, ALPHA, dropout, constraint)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


def _x(*shape: int) -> Tensor:
    return torch.randn(*shape, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _plain_lora(layer: SelectionLoRA) -> nn.Module:
    """PEFT's LoRA with the same base, A, B and alpha."""
    holder = nn.Sequential(layer.base)
    config = LoraConfig(
        r=K, lora_alpha=ALPHA, target_modules=["0"], bias="none", fan_in_fan_out=isinstance(layer.base, Conv1D)
    )
    adapted = get_peft_model(holder, config)
    target = adapted.base_model.model[0]
    assert isinstance(target, LoraLayer)
    with torch.no_grad():
        target.lora_A["default"].weight.data = layer.lora_A.detach().clone()
        target.lora_B["default"].weight.data = layer.lora_B.detach().clone()
    return adapted.eval()


@pytest.mark.parametrize("kind", LINEARS)
def test_equal_selection_variables_times_k_are_plain_lora(kind: str) -> None:
    layer = _drawn(LINEARS[kind]())
    with torch.no_grad():
        layer.selection_logits.fill_(0.7)
    x = _x(2, 5)
    found, base = layer(x).detach(), layer.base(x)
    truth = _plain_lora(layer)(x).detach()
    assert float((truth - base).norm()) > 1
    assert torch.allclose(base + K * (found - base), truth, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("kind", LINEARS)
def test_the_output_is_the_weighted_sum_of_rank_one_matrices(kind: str, constraint: str) -> None:
    layer = _drawn(LINEARS[kind](), constraint)
    z = layer.selection_logits
    a = {"softmax": z.exp() / z.exp().sum(), "sigmoid": 1 / (1 + (-z).exp()), "none": z}[constraint]
    x = _x(3)
    truth = layer.base(x)
    for j in range(K):
        truth = truth + ALPHA / K * a[j] * x @ torch.outer(layer.lora_B[:, j], layer.lora_A[j]).T
    assert torch.allclose(layer(x), truth, rtol=1e-12)
    assert torch.allclose(layer.selection(), a)


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_gradients_agree_with_differences_in_float64(constraint: str) -> None:
    layer = _drawn(nn.Linear(N, M), constraint)
    factors = (layer.lora_A, layer.lora_B, layer.selection_logits)

    def output(A: Tensor, B: Tensor, z: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"lora_A": A, "lora_B": B, "selection_logits": z}, _x(2))  # type: ignore[no-any-return]

    inputs = tuple(f.detach().clone().requires_grad_() for f in factors)
    assert torch.autograd.gradcheck(output, inputs)
    assert torch.autograd.gradgradcheck(output, inputs)


@torch.no_grad()
def test_components_without_their_column_of_b_are_gone_and_the_others_stay() -> None:
    layer = _drawn(nn.Linear(N, M))
    x, a = _x(4), layer.selection()
    whole = layer(x)
    removed = sum(ALPHA / K * a[j] * x @ torch.outer(layer.lora_B[:, j], layer.lora_A[j]).T for j in (1, 3))
    layer.lora_B[:, [1, 3]] = 0
    assert torch.allclose(layer(x), whole - removed)


@pytest.mark.parametrize(("constraint", "start"), [("softmax", 1 / K), ("sigmoid", 0.5), ("none", 1 / K)])
def test_a_fresh_layer_changes_nothing_and_favours_no_component(constraint: str, start: float) -> None:
    base = nn.Linear(N, M)
    layer = SelectionLoRA(base, K, ALPHA, 0.0, constraint)
    x = _x(4).float()
    assert torch.equal(layer(x), base(x))
    assert torch.allclose(layer.selection(), torch.full((K,), start))
    assert float(layer.lora_A.detach().abs().max()) <= N**-0.5  # Kaiming-uniform with a = sqrt(5)
    assert float(layer.lora_A.detach().abs().max()) > 0.5 * N**-0.5


def test_dropout_is_on_the_input_of_lora_alone() -> None:
    layer = _drawn(nn.Linear(N, M), dropout=0.5).train()
    x = _x(4)
    torch.manual_seed(0)
    found = layer(x)
    torch.manual_seed(0)
    dropped = nn.functional.dropout(x, 0.5)
    s = ALPHA / K * layer.selection()
    assert torch.allclose(found, layer.base(x) + (dropped @ layer.lora_A.T * s) @ layer.lora_B.T)
    assert torch.equal(layer.eval()(x), layer(x))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_with_fresh_selection_layers_gives_the_pretrained_logits(name: str) -> None:
    batch = collate(tiny_examples(5))
    plain = tiny_model(name).eval()
    before = logits(plain, batch)
    model, layers, _ = tiny_searched(name, randomised=False)
    assert len(layers) == 2 * len(ARCHITECTURES[name].targets)
    assert torch.equal(logits(model.eval(), batch), before)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_only_factors_selection_and_head_are_trainable(name: str) -> None:
    model, layers, head = tiny_searched(name)
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    own = {f"{layer}.{kind}" for layer in layers for kind in ("lora_A", "lora_B", "selection_logits")}
    heads = {n for n, _ in model.named_parameters() if any(n.startswith(h + ".") for h in head)}
    assert heads
    assert trainable == own | heads


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_trainable_parameter_gets_a_gradient_and_the_base_none(name: str) -> None:
    model, _, _ = tiny_searched(name)
    summed_loss(model, collate(tiny_examples(8))).backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            assert float(parameter.grad.abs().sum()) > 0, parameter_name
        else:
            assert parameter.grad is None, parameter_name


def test_layers_are_found_by_full_name_in_the_models_order() -> None:
    model, layers, _ = tiny_searched("bert")
    assert list(layers) == [
        f"bert.encoder.layer.{i}.attention.self.{kind}" for i in range(2) for kind in ("query", "value")
    ]
    assert all(model.get_submodule(name) is layer for name, layer in layers.items())


def test_a_half_precision_base_gets_float32_factors() -> None:
    layer = SelectionLoRA(nn.Linear(N, M, dtype=torch.bfloat16), K, ALPHA, 0.0, "softmax")
    assert {p.dtype for n, p in layer.named_parameters() if not n.startswith("base.")} == {torch.float32}
    assert layer(_x(2).bfloat16()).dtype == torch.bfloat16


def test_an_unmatched_target_leaves_the_model_untouched() -> None:
    model = tiny_model("bert")
    names = {name for name, _ in model.named_modules()}
    with pytest.raises(UserError, match=r"target module 'qery' matches no layer of the model; did you mean 'query'\?"):
        add_selection(model, ["value", "qery"])
    assert {name for name, _ in model.named_modules()} == names


def test_the_logits_of_all_layers_come_in_float64() -> None:
    _, layers, _ = tiny_searched("bert")
    found = selection_logits(layers)
    assert list(found) == list(layers)
    for name, z in found.items():
        assert z.dtype == torch.float64
        assert torch.equal(z, layers[name].selection_logits.detach().double())
