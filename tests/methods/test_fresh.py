"""An adapter that has learned nothing yet changes no logit, however the base is kept and whatever passes are in."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from autolora.context.base import Context
from autolora.experiment.line import search
from autolora.lora.frozen import is_kept_low
from autolora.lora.targets import target_shapes
from autolora.methods.base import method_of
from tests.laboratory import tiny_run
from tests.methods.linked import LAYERS, layer_of
from tests.methods.support import adapted, logits, trained_and_loaded_logits, write_generation_laboratory

EXACT = [
    *("lora:2", "rslora:2", "dora:2", "lora-fa:2", "lora-plus:2", "adalora:budget=rank=2", "eva:budget=rank=2"),
    *("houlsby:3", "pfeiffer:3"),
]
RESIDUAL = ["pissa:2", "olora:2"]  # what is left of W is rounded to the base's precision
LOW = "model.base_dtype=bfloat16"


def before_and_after(
    laboratory: Path, output: Path, method: str, *options: str, autocast: bool = False
) -> tuple[Tensor, Tensor, nn.Module, Context]:
    """Logits of the pretrained model and of the model with the fresh adapter, and the latter."""
    run, context = tiny_run(laboratory, output, method, *options)
    if method_of(run).searches:
        search(run, context)
    model = adapted(run, context)
    base = context.model().eval()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        return logits(base, context), logits(model, context), model, context


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("base", ["bfloat16", "float32"])
@pytest.mark.parametrize("method", EXACT)
def test_a_fresh_adapter_changes_no_logit(
    laboratory: Path, tmp_path: Path, method: str, base: str, autocast: bool
) -> None:
    before, after, model, _ = before_and_after(
        laboratory, tmp_path, method, f"model.base_dtype={base}", autocast=autocast
    )
    assert any(map(is_kept_low, model.modules())) == (base == "bfloat16")
    assert torch.equal(after, before)


@pytest.mark.parametrize("method", RESIDUAL)
def test_one_that_is_taken_out_of_the_weights_changes_them_by_their_rounding(
    laboratory: Path, tmp_path: Path, method: str
) -> None:
    before, after, *_ = before_and_after(laboratory, tmp_path, method, LOW)
    assert (after - before).abs().max() <= 2**-7 * before.abs().max()


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_doras_magnitudes_are_the_norms_of_a_base_in_bfloat16(tmp_path: Path, kind: str) -> None:
    """Of GPT-2's Conv1D layers, which keep W transposed, too."""
    laboratory = write_generation_laboratory(tmp_path / "laboratory", kind)
    before, after, model, context = before_and_after(laboratory, tmp_path, "dora:2", LOW)
    assert torch.equal(after, before)
    for name in target_shapes(base := context.model(), context.targets(base)):
        layer = layer_of(model, name)
        norms = layer.get_base_layer().wide(torch.float32).norm(dim=1)
        assert torch.allclose(layer.lora_magnitude_vector["default"].weight, norms, rtol=1e-6)
        assert float(norms.min()) > 0


def test_dora_on_a_base_in_bfloat16_is_loaded_as_it_was_trained(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, context = tiny_run(laboratory, tmp_path, "dora:2", LOW, "retrain.steps=8", "retrain.lora_dropout=0")
    truth, found = trained_and_loaded_logits(run, context, monkeypatch)
    assert (found - truth).abs().max() <= 1e-5 * truth.abs().max()
    for name in LAYERS:  # moved by the training, off the norms and not off zero
        magnitude = layer_of(method_of(run).load(context.model(), context), name).lora_magnitude_vector["default"]
        norms = context.model().get_submodule(name).wide(torch.float32).norm(dim=1)  # type: ignore[operator]
        assert 0 < (magnitude.weight - norms).abs().max() < 0.5 * norms.min()


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="pip install 'autolora[quantised]' brings it")
@pytest.mark.parametrize("kind", ["nf4", "int8"])
@pytest.mark.parametrize("method", ["lora:2", "dora:2", "pfeiffer:3"])
def test_nor_does_one_on_a_quantised_base(laboratory: Path, tmp_path: Path, method: str, kind: str) -> None:
    before, after, *_ = before_and_after(laboratory, tmp_path, method, f"model.quantization={kind}")
    assert (after - before).abs().max() <= 1e-5 * before.abs().max()
