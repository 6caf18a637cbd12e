"""Merging holds the model once: what lives in tensors while layers are merged and files are written."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora.layer import Linear
from safetensors.torch import load_file
from torch._subclasses.fake_tensor import FakeTensor
from transformers import modeling_utils

import autolora
from tests.adapters.merged import made

SIZES = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4}


def live_bytes() -> int:
    """Of all storages that Python's tensors hold; not of fakes, which a compiler before us may have kept alive."""
    storages = {}
    for each in gc.get_objects():
        if isinstance(each, torch.Tensor) and not isinstance(each, FakeTensor) and each.device.type == "cpu":
            storages[each.untyped_storage().data_ptr()] = each.untyped_storage().nbytes()
    return sum(storages.values())


def test_the_model_is_in_memory_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "down_proj", "up_proj"], r=2)
    case = made(tmp_path, "llama", "AutoModelForCausalLM", config, dtype=torch.bfloat16, **SIZES)
    gc.collect()
    before = live_bytes()
    seen: list[int] = []
    delta, save = Linear.get_delta_weight, modeling_utils.safe_save_file

    def counted_delta(layer: Any, name: str) -> torch.Tensor:
        found: torch.Tensor = delta(layer, name)
        seen.append(live_bytes() - before)
        return found

    def counted_save(*arguments: Any, **options: Any) -> None:
        seen.append(live_bytes() - before)
        save(*arguments, **options)

    monkeypatch.setattr(Linear, "get_delta_weight", counted_delta)
    monkeypatch.setattr(modeling_utils, "safe_save_file", counted_save)
    found = autolora.merge(case.adapter, tmp_path / "merged", shard_size="400KB")
    adapter = sum(tensor.nbytes for tensor in load_file(case.adapter / "adapter_model.safetensors").values())
    layer = 4 * 128 * 256  # the largest, in float32
    assert len(seen) > 12 + 2
    assert max(seen) >= 0.9 * found.size, "the model is counted"
    assert max(seen) <= 1.02 * found.size + 3 * adapter + 3 * layer
