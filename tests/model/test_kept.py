"""A base that is kept in fewer bits gives what a float32 one gives: every pass, every gradient, every identity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from autolora.allocation.components import components_of
from autolora.allocation.gates import measure_gates
from autolora.allocation.likelihood import Predictive
from autolora.allocation.rows import rows_of
from autolora.errors import UserError
from autolora.lora.adapter import add_adapter, lora_layers
from autolora.lora.config import lora_config
from autolora.lora.frozen import Frozen, FrozenEmbedding, FrozenLinear
from autolora.lora.ranks import Ranks
from autolora.lora.selection import add_selection
from autolora.lora.targets import all_linear, target_shapes
from autolora.model.kept import FLOAT32, Kept, kept_as
from autolora.model.load import load_model, weights_hash
from autolora.recipe.schema import Model
from tests.model.architecture import write_checkpoint
from tests.model.architectures import ARCHITECTURES
from tests.model.folders import write_model

IDS = torch.randint(4, 12, (3, 9), generator=torch.Generator().manual_seed(1))
CAUSAL = "AutoModelForCausalLM"


def no_head(model: nn.Module) -> list[str]:
    return []


def classifier(model: nn.Module) -> list[str]:
    return ["score"]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In float32."""
    folder = tmp_path_factory.mktemp("kept") / "llama"
    sizes = {"hidden_size": 64, "intermediate_size": 128, "initializer_range": 0.1}
    return write_model(folder, "llama", CAUSAL, **sizes)


@pytest.fixture(scope="module")
def half(llama: Path) -> Path:
    """The same in bfloat16."""
    folder = llama.parent / "half"
    tokenizer = transformers.AutoTokenizer.from_pretrained(llama)
    tokenizer.save_pretrained(folder)
    transformers.AutoModelForCausalLM.from_pretrained(llama, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def loaded(folder: Path, kept: Kept = FLOAT32, auto: str = CAUSAL, head: Any = no_head, **config: Any) -> Any:
    torch.manual_seed(0)
    return load_model(Model(name=str(folder)), auto, config, 0, head, kept).model


BFLOAT16 = Kept(torch.bfloat16)


@pytest.mark.parametrize(
    "name", ["BERT", "DeBERTa-v3", "GPT-2", "OPT", "Gemma 3", "Qwen3", "Mixtral", "OLMoE", "T5", "BART"]
)
def test_every_pass_gives_the_bits_of_a_float32_base(name: str, tmp_path: Path) -> None:
    architecture = ARCHITECTURES[name]
    folder = tmp_path / "model"
    write_checkpoint(folder, architecture)
    kind = getattr(transformers, architecture.checkpoint)
    kind.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    auto = {"BERT": "AutoModelForMaskedLM", "DeBERTa-v3": "AutoModelForMaskedLM"}.get(name, CAUSAL)
    auto = "AutoModelForSeq2SeqLM" if name in ("T5", "BART") else auto
    plain, kept = loaded(folder, auto=auto).eval(), loaded(folder, BFLOAT16, auto).eval()
    low = [parameter for parameter in kept.parameters() if parameter.dtype == torch.bfloat16]
    assert sum(p.numel() for p in low) > 0.7 * sum(p.numel() for p in kept.parameters())
    inputs: dict[str, Tensor] = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
    if auto == "AutoModelForSeq2SeqLM":
        inputs["decoder_input_ids"] = IDS
    for autocast in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            assert torch.equal(plain(**inputs).logits, kept(**inputs).logits)
    assert weights_hash(plain, []) == weights_hash(kept, [])


@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_and_their_derivatives_are_those_of_a_float32_base(half: Path, autocast: bool) -> None:
    found = []
    for kept in (FLOAT32, BFLOAT16):
        model = loaded(half, kept)
        layers = add_selection(model, all_linear(model, []), rank=2)
        generator = torch.Generator().manual_seed(2)
        trained = []
        for layer in layers.values():
            layer.lora_A.data.copy_(torch.randn(layer.lora_A.shape, generator=generator) * 0.1)
            layer.lora_B.data.copy_(torch.randn(layer.lora_B.shape, generator=generator) * 0.1)
            trained += layer.trained()
        assert {parameter.dtype for parameter in trained} == {torch.float32}
        with (
            torch.autocast("cpu", torch.bfloat16, enabled=autocast),
            torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        ):
            loss = model(input_ids=IDS, labels=IDS).loss
            first = torch.autograd.grad(loss, trained, create_graph=True, materialize_grads=True)
            square = torch.stack([each.square().sum() for each in first]).sum()
            second = torch.autograd.grad(square, trained, materialize_grads=True)
        found.append([*first, *second])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-7)
    assert max(float(each.abs().max()) for each in found[0]) > 1e-3


def test_fisher_gates_are_those_of_a_float32_base(half: Path) -> None:
    measured = []
    for kept in (FLOAT32, BFLOAT16):
        adapted = with_adapter(loaded(half, kept))
        layers: dict[str, Any] = dict(lora_layers(adapted))
        components = components_of(layers)
        batch = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
        sampled = Predictive(adapted, adapted.get_base_model(), "categorical").sampled
        measured.append(measure_gates(adapted, layers, components, [(batch, rows_of(batch))], sampled))
    torch.testing.assert_close(measured[1].derivatives, measured[0].derivatives, rtol=1e-5, atol=1e-9)
    assert measured[0].derivatives.abs().max() > 1e-6


def with_adapter(model: Any, head: list[str] | None = None) -> Any:
    shapes = target_shapes(model, all_linear(model, head or []))
    ranks = Ranks(dict.fromkeys(shapes, 2), 2, 4.0, shapes=shapes)
    torch.manual_seed(4)
    adapted = add_adapter(model, ranks, lora_config(ranks, head=head or []))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return adapted


def test_an_adapter_and_a_head_are_drawn_and_trained_in_float32_as_on_a_float32_base(half: Path) -> None:
    states = []
    for kept in (FLOAT32, BFLOAT16):
        model = loaded(half, kept, "AutoModelForSequenceClassification", classifier, num_labels=3)
        assert model.score.weight.dtype == torch.float32
        assert type(model.score) is nn.Linear
        adapted = with_adapter(model, ["score"])
        states.append({name: p.detach() for name, p in adapted.named_parameters() if p.requires_grad})
    assert {each.dtype for each in states[1].values()} == {torch.float32}
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], each) for name, each in states[1].items())
    assert any("lora_A" in name for name in states[0])


def test_linear_layers_and_embeddings_are_kept_low_and_all_else_in_float32(half: Path) -> None:
    model = loaded(half, BFLOAT16)
    kinds = {type(module) for module in model.modules() if isinstance(module, Frozen)}
    assert kinds == {FrozenLinear, FrozenEmbedding}
    wide = {name for name, parameter in model.named_parameters() if parameter.dtype == torch.float32}
    assert wide
    assert all("norm" in name for name in wide)


def test_no_tensor_is_in_float32_on_its_way(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import autolora.model.kept as module

    calls: list[int] = []
    before = module.narrow

    def narrow(model: nn.Module, *rest: Any) -> None:
        calls.append(sum(p.numel() for p in model.parameters() if p.dtype == torch.float32 and p.device.type != "meta"))
        before(model, *rest)

    monkeypatch.setattr(module, "narrow", narrow)
    loaded(half, BFLOAT16)
    assert calls[0] == 0  # it is told before it is filled
    assert calls[-1] < 2000  # and there are norms only afterwards


@pytest.mark.parametrize(
    ("stored", "base_dtype", "precision", "dtype", "exact"),
    [
        ("half", "auto", "bfloat16", torch.bfloat16, True),
        ("half", "auto", "float32", torch.float32, True),
        ("half", "float32", "bfloat16", torch.float32, True),
        ("half", "bfloat16", "float32", torch.bfloat16, True),
        ("llama", "auto", "bfloat16", torch.float32, True),  # the paper's models, and every table there is
        ("llama", "bfloat16", "bfloat16", torch.bfloat16, False),
    ],
)
def test_auto_rounds_nothing(
    stored: str, base_dtype: Any, precision: str, dtype: Any, exact: bool, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(stored)
    kept = kept_as(Model(name=str(folder), base_dtype=base_dtype), precision)
    assert (kept.dtype, kept.exact) == (dtype, exact)


def test_a_float16_checkpoint_stays_one(llama: Path, tmp_path: Path) -> None:
    transformers.AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float16).save_pretrained(tmp_path / "m")
    kept = kept_as(Model(name=str(tmp_path / "m")), "bfloat16")
    assert (kept.dtype, kept.exact) == (torch.float16, True)
    plain, low = loaded(tmp_path / "m"), loaded(tmp_path / "m", kept)
    assert torch.equal(plain(input_ids=IDS).logits, low(input_ids=IDS).logits)


def test_a_base_that_is_trained_is_not_kept_low(half: Path) -> None:
    assert kept_as(Model(name=str(half)), "bfloat16", trained=True) == FLOAT32
    with pytest.raises(UserError, match="base_dtype: bfloat16 is for a base that stays frozen"):
        kept_as(Model(name=str(half), base_dtype="bfloat16"), "bfloat16", trained=True)


def test_the_hash_is_of_what_is_on_disk_whatever_it_is_rounded_to(llama: Path) -> None:
    plain, rounded = loaded(llama), loaded(llama, Kept(torch.bfloat16, exact=False))
    assert not torch.equal(plain.lm_head.weight, rounded.lm_head.weight.float())
    assert weights_hash(rounded, []) == weights_hash(plain, [])
    assert weights_hash(rounded, ["lm_head"]) == weights_hash(plain, ["lm_head"]) != weights_hash(plain, [])


def test_what_is_drawn_is_in_the_hash_as_it_was_drawn(llama: Path) -> None:
    auto = "AutoModelForSequenceClassification"
    plain = loaded(llama, auto=auto, head=classifier, num_labels=3)
    rounded = loaded(llama, Kept(torch.bfloat16, exact=False), auto, classifier, num_labels=3)
    assert weights_hash(rounded, []) == weights_hash(plain, [])


@pytest.mark.parametrize("kind", ["nf4", "int8"])
class TestQuantised:
    @pytest.fixture
    def model(self, kind: str, llama: Path) -> Any:
        pytest.importorskip("bitsandbytes", reason="pip install 'autolora[quantised]' brings it")
        return loaded(llama, Kept(torch.bfloat16, kind, exact=False))

    def test_linear_layers_of_the_backbone_are_and_have_their_true_shapes(self, kind: str, model: Any) -> None:
        packed = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and not m.weight.is_floating_point()]
        assert packed == all_linear(model, [])
        assert target_shapes(model, ["down_proj"])["model.layers.0.mlp.down_proj"] == (128, 64)
        assert model.lm_head.weight.dtype == torch.bfloat16
        assert "quantization_config" not in model.config.to_dict()

    def test_they_compute_with_the_weights_that_bitsandbytes_unpacks(self, kind: str, model: Any, llama: Path) -> None:
        own = loaded(llama).model.layers[0].mlp.down_proj.weight
        layer = model.model.layers[0].mlp.down_proj
        wide = layer.wide(torch.float32)
        share = float((wide - own).norm() / own.norm())
        assert share < (0.12 if kind == "nf4" else 0.01)
        x = torch.randn(2, 5, 128, requires_grad=True)
        for autocast, dtype in ((False, torch.float32), (True, torch.bfloat16)):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                found, wanted = layer(x), nn.functional.linear(x, wide)
            assert found.dtype == dtype
            assert torch.equal(found, wanted)
        (g,) = torch.autograd.grad(layer(x).pow(3).sum(), x, create_graph=True)
        (w,) = torch.autograd.grad(nn.functional.linear(x, wide).pow(3).sum(), x, create_graph=True)
        torch.testing.assert_close(g, w)
        torch.testing.assert_close(
            torch.autograd.grad(g.square().sum(), x)[0], torch.autograd.grad(w.square().sum(), x)[0]
        )

    def test_peft_and_gates_work_on_them(self, kind: str, model: Any) -> None:
        adapted = with_adapter(model)
        layers: dict[str, Any] = dict(lora_layers(adapted))
        assert {p.dtype for p in adapted.parameters() if p.requires_grad} == {torch.float32}
        batch = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
        sampled = Predictive(adapted, adapted.get_base_model(), "categorical").sampled
        gates = measure_gates(adapted, layers, components_of(layers), [(batch, rows_of(batch))], sampled)
        plain = unpacked(adapted)
        sampled = Predictive(plain, plain.get_base_model(), "categorical").sampled
        layers = dict(lora_layers(plain))
        wanted = measure_gates(plain, layers, components_of(layers), [(batch, rows_of(batch))], sampled)
        torch.testing.assert_close(gates.derivatives, wanted.derivatives, rtol=1e-4, atol=1e-8)

    def test_the_hash_is_of_what_is_on_disk(self, kind: str, model: Any, llama: Path) -> None:
        assert weights_hash(model, []) == weights_hash(loaded(llama), [])


def unpacked(adapted: Any) -> Any:
    """The same model with plain float32 layers of the weights that the packed ones stand for."""
    for name, module in list(adapted.named_modules()):
        if isinstance(module, nn.Linear) and isinstance(module, Frozen):
            plain = nn.Linear(module.in_features, module.out_features, bias=False)
            plain.weight.data = module.wide(torch.float32).clone()
            adapted.set_submodule(name, plain)
    return adapted
