"""A retraining in bfloat16 casts its frozen weights once: the adapter has the same bits, and where it is not done."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from autolora.experiment import retrain as stage
from autolora.experiment.retrain import finetuning, retrain
from autolora.lora.cast import CastLinear
from autolora.methods.base import method_of
from tests.laboratory import tiny_run

IN_BFLOAT16 = ("model.dtype=bfloat16", "retrain.steps=4")


def test_an_adapter_has_the_same_bits(laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = []
    for name in ("once", "always"):
        run, context = tiny_run(laboratory, tmp_path / name, "lora:2", *IN_BFLOAT16)
        method_of(run).search(context)
        adapters.append(retrain(run, context) / "adapter_model.safetensors")
        monkeypatch.setattr(stage, "cast_once", lambda model: None)
    once, always = (path.read_bytes() for path in adapters)
    assert once == always


@pytest.mark.parametrize(
    ("override", "cast"),
    [("model.dtype=bfloat16", True), ("model.dtype=float32", False), ("model.gradient_checkpointing=true", False)],
)
def test_where_it_costs_memory_or_gains_nothing_it_is_not_done(
    laboratory: Path, tmp_path: Path, override: str, cast: bool
) -> None:
    run, context = tiny_run(laboratory, tmp_path / "runs", "lora:2", *IN_BFLOAT16, override)
    method = method_of(run)
    method.search(context)
    model = context.model()
    training = method.adapt(model, context.head(model), context, 4)
    finetuning(context, method, training, context.examples("train"), 4)
    modules: list[nn.Module] = list(training.model.modules())
    assert any(isinstance(module, CastLinear) for module in modules) == cast
