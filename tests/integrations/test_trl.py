"""`SqueezeCallback` in TRL's SFTTrainer, with its own LoRA, checkpointing, packing and masked prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

pytest.importorskip("trl", reason="pip install 'autolora[trl]' brings it")
from trl import SFTConfig, SFTTrainer

from autolora.errors import UserError
from autolora.integrations.transformers import SqueezeCallback
from tests.integrations.trainers import STEPS, factors, ranks, trained

WORDS = ["the", "a", "cat", "dog", "house", "sees", "likes", "builds", "red", "blue", "small"]


def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=64
    )


def network() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS) + 3,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=24,
        max_position_embeddings=64,
        initializer_range=0.2,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def rows(kind: str) -> Dataset:
    draws = torch.Generator().manual_seed(1)
    found = []
    for _ in range(64):
        length = int(torch.randint(3, 9, (), generator=draws))
        words = [WORDS[i] for i in torch.randint(len(WORDS), (length,), generator=draws).tolist()]
        text = {"prompt": " ".join(words) + " ", "completion": " ".join(reversed(words))}
        found.append(text if kind == "completion" else {"text": "".join(text.values())})
    return Dataset.from_list(found)


def sft(folder: Path, kind: str = "text", lora: LoraConfig | None = None, **more: Any) -> SFTTrainer:
    given: dict[str, Any] = {
        "max_steps": STEPS,
        "per_device_train_batch_size": 4,
        "learning_rate": 2e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        "max_length": 32,
        **more,
    }
    return SFTTrainer(
        model=network(),
        args=SFTConfig(output_dir=str(folder), **given),
        train_dataset=rows(kind),
        processing_class=tokenizer(),
        peft_config=lora or LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[SqueezeCallback(0.5, examples=16, warmup=2)],
    )


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("text", {}),
        ("text", {"gradient_checkpointing": False, "gradient_accumulation_steps": 2}),
        ("completion", {}),
        ("completion", {"completion_only_loss": False}),
        ("text", {"packing": True, "packing_strategy": "wrapped"}),
        ("text", {"bf16": True}),
        ("text", {"loss_type": "dft"}),
    ],
    ids=str,
)
def test_the_adapter_is_cut_down_and_trained_on(kind: str, more: dict[str, Any], tmp_path: Path) -> None:
    found = sft(tmp_path, kind, **more)
    before = factors(found.model)
    result = found.train()
    assert result.global_step == STEPS
    assert 0.4 * before < factors(found.model) <= before / 2
    found.save_model(str(tmp_path / "adapter"))
    loaded = PeftModel.from_pretrained(network(), tmp_path / "adapter")
    assert ranks(loaded) == ranks(found.model)
    values = {name: value for name, value in loaded.named_parameters() if "lora_" in name}
    assert all(torch.equal(value, values[name]) for name, value in trained(found.model).items())


@pytest.mark.parametrize("checkpoint", [2, 6])
def test_a_resumed_training_equals_an_uninterrupted_one(checkpoint: int, tmp_path: Path) -> None:
    whole = sft(tmp_path, save_strategy="steps", save_steps=2)
    whole.train()
    resumed = sft(tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{checkpoint}"))
    wanted = trained(whole.model)
    assert trained(resumed.model).keys() == wanted.keys()
    assert all(torch.equal(value, wanted[name]) for name, value in trained(resumed.model).items())


def test_a_dora_of_peft_config_is_refused_before_the_first_step(tmp_path: Path) -> None:
    found = sft(tmp_path, lora=LoraConfig(r=4, use_dora=True, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    with pytest.raises(UserError, match="only a plain LoRA"):
        found.train()
    assert found.state.global_step == 0


def test_packed_examples_without_flash_attention(tmp_path: Path) -> None:
    """The default packing flattens a batch, and tells its examples apart by position_ids."""
    found = sft(tmp_path, packing=True)
    before = factors(found.model)
    found.train()
    assert factors(found.model) <= before / 2
