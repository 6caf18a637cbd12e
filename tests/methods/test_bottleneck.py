"""Houlsby's and Pfeiffer's adapters: where they are, what they compute, what is trained, saved and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from autolora.errors import UserError
from autolora.experiment.line import evaluate, retrain
from autolora.methods.base import method_of
from autolora.methods.bottleneck import (
    ATTENTION,
    FEED_FORWARD,
    Bottleneck,
    BottleneckMethod,
    Houlsby,
    Pfeiffer,
    output_projections,
)
from autolora.recipe.method import parse_method
from tests.laboratory import tiny_run
from tests.methods.support import (
    adapted,
    changed,
    loaded,
    logits,
    trained_run,
    write_generation_laboratory,
)
from tests.model import tiny
from tests.model.tiny import tiny_examples, tiny_model

METHODS = ["houlsby:3", "pfeiffer:3"]
ADDED = (".down.", ".up.")
PROJECTIONS = {  # in a layer: the attention's, the feed-forward's
    "bert": ("bert.encoder.layer.{}.attention.output.dense", "bert.encoder.layer.{}.output.dense"),
    "roberta": ("roberta.encoder.layer.{}.attention.output.dense", "roberta.encoder.layer.{}.output.dense"),
    "deberta-v2": ("deberta.encoder.layer.{}.attention.output.dense", "deberta.encoder.layer.{}.output.dense"),
    "gpt2": ("transformer.h.{}.attn.c_proj", "transformer.h.{}.mlp.c_proj"),
    "llama": ("model.layers.{}.self_attn.o_proj", "model.layers.{}.mlp.down_proj"),
}


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("generation") / "context"
    return request.param, write_generation_laboratory(folder, request.param)


def adapter_parameters(adapters: int, width: int, size: int) -> int:
    """Down and up with their biases."""
    return adapters * (2 * width * size + size + width)


@pytest.mark.parametrize("name", PROJECTIONS)
def test_every_layer_has_its_output_projections(name: str) -> None:
    model = tiny_model(name, layers=3)
    attention, feed_forward = PROJECTIONS[name]
    expected = [part.format(i) for i in range(3) for part in (attention, feed_forward)]
    assert output_projections(model, (ATTENTION, FEED_FORWARD), "houlsby") == expected
    assert output_projections(model, (FEED_FORWARD,), "pfeiffer") == expected[1::2]


def test_an_adapter_is_a_bottleneck_with_a_residual() -> None:
    torch.manual_seed(0)
    base = nn.Linear(5, 4)
    adapter = Bottleneck(base, 2, nn.ReLU())
    x = torch.randn(3, 5)
    assert torch.equal(adapter(x), base(x))
    with torch.no_grad():
        for parameter in (*adapter.down.parameters(), *adapter.up.parameters()):
            parameter.normal_()
    y = base(x)
    inner = (y @ adapter.down.weight.T + adapter.down.bias).clamp(min=0)
    assert torch.allclose(adapter(x), y + inner @ adapter.up.weight.T + adapter.up.bias, atol=1e-6)
    assert sum(p.numel() for p in adapter.parameters()) - 24 == adapter_parameters(1, width=4, size=2)


@pytest.mark.parametrize(
    ("kept", "trained"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.uint8, torch.float32),  # as nf4 keeps its codes
        (torch.int8, torch.float32),
        (torch.float8_e4m3fn, torch.float32),
    ],
)
def test_what_is_trained_is_float32_however_the_base_is_kept(kept: torch.dtype, trained: torch.dtype) -> None:
    base = nn.Linear(5, 4).requires_grad_(False)
    base.weight.data = base.weight.data.to(kept)
    adapter = Bottleneck(base, 2, nn.ReLU())
    assert {p.dtype for part in (adapter.down, adapter.up) for p in part.parameters()} == {trained}


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_an_adapter_takes_what_its_base_gives_in_every_precision(dtype: torch.dtype, autocast: bool) -> None:
    torch.manual_seed(0)
    base = nn.Linear(5, 4, dtype=dtype)
    adapter, x = Bottleneck(base, 2, nn.ReLU()), torch.randn(3, 5, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert torch.equal(adapter(x), base(x))
    nn.init.normal_(adapter.up.weight, std=100)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert adapter(x).dtype == base(x).dtype
        assert not torch.equal(adapter(x), base(x))
        adapter(x).float().sum().backward()
    assert adapter.down.weight.grad is not None
    assert adapter.down.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("passes", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", METHODS)
def test_a_run_on_a_base_in_bfloat16_trains_and_keeps_float32(
    laboratory: Path, tmp_path: Path, method: str, passes: str
) -> None:
    small = ("retrain.weights.learning_rate=1e-5", "retrain.steps=4")
    options = ("model.base_dtype=bfloat16", f"model.dtype={passes}", *small)
    run, context = trained_run(laboratory, tmp_path, method, *options)
    start = dict(adapted(run, context).named_parameters())
    kept = load_file(run.path / "adapter" / "weights.safetensors")
    assert {tensor.dtype for tensor in kept.values()} == {torch.float32}
    for name, tensor in kept.items():
        if ".down.weight" in name:  # steps that bfloat16 would round away
            assert (tensor != start[name]).float().mean() > 0.9
    (row,) = evaluate(run, context)
    assert row["examples"] == 23


@pytest.mark.parametrize("kind", [Houlsby, Pfeiffer])
@pytest.mark.parametrize("name", PROJECTIONS)
def test_every_architecture_begins_as_the_pretrained_model_and_uses_every_adapter(
    name: str, kind: type[BottleneckMethod], laboratory: Path, tmp_path: Path
) -> None:
    method = method_of(tiny_run(laboratory, tmp_path, f"{kind.__name__.lower()}:3")[0])
    assert type(method) is kind
    model = tiny_model(name).eval()
    batch = tiny.collate(tiny_examples(4))
    before = tiny.logits(model, batch)
    method.adapt(model, tiny.tiny_head(model, name), None, 1)  # type: ignore[arg-type]
    assert torch.equal(tiny.logits(model.eval(), batch), before)
    adapters = [module for module in model.modules() if isinstance(module, Bottleneck)]
    assert len(adapters) == 2 * len(kind.after)
    up = [adapter.up.weight for adapter in adapters]
    gradients = torch.autograd.grad(tiny.summed_loss(model, batch), up)
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_goes_to_the_end_and_changes_what_it_trains_and_nothing_else(
    laboratory: Path, tmp_path: Path, method: str
) -> None:
    run, context = trained_run(laboratory, tmp_path, method)
    base, model = context.model(), loaded(run, context)
    norms = {name for name, _ in base.named_parameters() if ".LayerNorm." in name}
    head = {"classifier.weight", "classifier.bias"}
    assert changed(base, model, ADDED) == (head | norms if method == "houlsby:3" else head)
    added = {name: p for name, p in model.named_parameters() if any(part in name for part in ADDED)}
    assert len(added) == (4 if method == "houlsby:3" else 2) * 4
    start = dict(adapted(run, context).named_parameters())
    assert not any(torch.equal(parameter, start[name]) for name, parameter in added.items())
    (row,) = evaluate(run, context)
    assert row["examples"] == 23


@pytest.mark.parametrize("size", [3, None])
@pytest.mark.parametrize("method", ["houlsby", "pfeiffer"])
def test_the_counts_are_those_of_the_closed_form(
    laboratory: Path, tmp_path: Path, method: str, size: int | None
) -> None:
    run, _ = trained_run(laboratory, tmp_path, f"{method}:{size}" if size else method, "retrain.steps=1")
    width, layers, head = 32, 2, 32 * 2 + 2
    adapters = layers * (2 if method == "houlsby" else 1)
    norms = 2 * width * (2 * layers + 1) if method == "houlsby" else 0
    counts = run.manifest()["stages"]["retrain"]
    assert counts["trainable_parameters"] == adapter_parameters(adapters, width, size or 64) + norms + head
    assert counts["head_parameters"] == head


@pytest.mark.parametrize("method", ["houlsby", "pfeiffer"])
def test_a_decoder_is_trained_for_generation(decoder: tuple[str, Path], tmp_path: Path, method: str) -> None:
    kind, laboratory = decoder
    run, context = trained_run(laboratory, tmp_path, f"{method}:3")
    width, layers = 16, 2
    norm = {"gpt2": 2 * width, "llama": width}[kind]  # Llama's have no bias
    expected = adapter_parameters(layers * (2 if method == "houlsby" else 1), width, 3)
    expected += norm * (2 * layers + 1) if method == "houlsby" else 0
    counts = run.manifest()["stages"]["retrain"]
    assert (counts["trainable_parameters"], counts["head_parameters"]) == (expected, 0)
    base, model = context.model(), loaded(run, context)
    norms = {name for name, _ in base.named_parameters() if "norm" in name or ".ln_" in name}
    assert changed(base, model, ADDED) == (norms if method == "houlsby" else set())
    assert evaluate(run, context)[0]["examples"] == 5


@pytest.mark.parametrize("method", METHODS)
def test_it_begins_as_the_pretrained_model(laboratory: Path, tmp_path: Path, method: str) -> None:
    run, context = tiny_run(laboratory, tmp_path, method)
    assert torch.equal(logits(adapted(run, context), context), logits(context.model().eval(), context))


def test_a_checkpoint_of_another_width_is_refused(laboratory: Path, tmp_path: Path) -> None:
    run, context = trained_run(laboratory, tmp_path, "houlsby:3", "retrain.steps=1")
    run.recipe = run.recipe.model_copy(update={"method": parse_method("houlsby:4")})
    with pytest.raises(UserError, match="belongs to other settings"):
        retrain(run, context)


def test_an_adapter_of_another_width_is_refused(laboratory: Path, tmp_path: Path) -> None:
    run, context = trained_run(laboratory, tmp_path, "pfeiffer", "retrain.steps=1")
    record = json.loads((run.path / "adapter" / "method.json").read_text(encoding="utf-8"))
    assert (record["method"], record["size"]) == ("pfeiffer", 64)
    run.recipe = run.recipe.model_copy(update={"method": parse_method("pfeiffer:4")})
    with pytest.raises(
        UserError, match=r"method.json is about .*64.*, but this run's recipe about .*4.*autolora retrain"
    ):
        loaded(run, context)


def test_a_damaged_record_is_refused(laboratory: Path, tmp_path: Path) -> None:
    run, context = trained_run(laboratory, tmp_path, "pfeiffer", "retrain.steps=1")
    (run.path / "adapter" / "method.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"method.json cannot be read: .*; write it anew with: autolora retrain"):
        loaded(run, context)


def test_a_model_without_output_projections_is_refused(laboratory: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"'houlsby' .* none of the attention in Sequential; looked for .*attn.c_proj, "
    ):
        output_projections(nn.Sequential(nn.Linear(2, 2)), Houlsby.after, "houlsby")


def test_a_model_with_a_layer_of_another_kind_is_refused() -> None:
    model: Any = tiny_model("llama", layers=3)
    del model.model.layers[1].mlp.down_proj  # as in a model in which some layers have experts
    message = r"none of the feed-forward in model.layers.1, only model.layers.1.self_attn.o_proj; .* mlp.down_proj"
    for method in (Houlsby, Pfeiffer):
        with pytest.raises(UserError, match=message):
            output_projections(model, method.after, "it")
