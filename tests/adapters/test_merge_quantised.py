"""Merging into bases whose weights are quantised: they are de-quantised, which is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

import autolora
from tests.adapters.merged import logits, randomise, reloaded
from tests.model.folders import write_model


@pytest.mark.parametrize(
    "options",
    [
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32},
        {"load_in_8bit": True},
    ],
    ids=["nf4", "int8"],
)
def test_a_bitsandbytes_base_is_dequantised(options: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="pip install 'autolora[quantised]' brings it")
    plain = write_model(tmp_path / "plain", "llama", "AutoModelForCausalLM", hidden_size=64, intermediate_size=128)
    how = BitsAndBytesConfig(**options)
    quantised = AutoModelForCausalLM.from_pretrained(plain, quantization_config=how, dtype=torch.float32)
    quantised.save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(plain).save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    if "load_in_8bit" in options:  # its product rounds the inputs, too, which no merged model does
        base = base.dequantize(dtype=torch.float32)
        base._weight_conversions = None
    adapted = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "down_proj"], r=2))
    randomise(adapted)
    wanted = logits(adapted.eval())
    adapted.save_pretrained(tmp_path / "adapter")
    found = autolora.merge(tmp_path / "adapter", tmp_path / "merged", dtype="float32")
    assert any("is quantised (bitsandbytes, " in note for note in found.notes)
    merged = reloaded(found, "AutoModelForCausalLM")
    assert not hasattr(merged.config, "quantization_config")
    torch.testing.assert_close(logits(merged), wanted, rtol=0, atol=1e-4)


@pytest.mark.slow  # reads the file twice, and 135 M parameters are written
def test_a_gguf_base_is_dequantised(smollm2: Path, tmp_path: Path) -> None:
    file = "SmolLM2-135M-Instruct.Q4_1.gguf"
    base = AutoModelForCausalLM.from_pretrained(smollm2, gguf_file=file, dtype=torch.float32)
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], r=2)
    torch.manual_seed(0)
    adapted = get_peft_model(base, config).eval()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    adapted.save_pretrained(tmp_path / "adapter")
    found = autolora.merge(tmp_path / "adapter", tmp_path / "merged", model="bundled:SmolLM2-135M-Instruct")
    assert any("is a GGUF file" in note for note in found.notes)
    assert found.dtype == "float32"
    merged = reloaded(found, "AutoModelForCausalLM")
    # For tokens that are no text this model's own rounding is 4e-4 in float32, of logits up to 31: hence float64, and
    # what rounding the merged weights to float32 leaves, as PEFT's own merge does, bit for bit.
    wanted = logits(adapted.double())
    torch.testing.assert_close(logits(merged.double()), wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))
    own = adapted.float().merge_and_unload().state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in merged.float().state_dict().items())
    tokenizer = AutoTokenizer.from_pretrained(found.path)
    assert tokenizer.chat_template
