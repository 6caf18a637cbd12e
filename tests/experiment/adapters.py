"""Adapters that stock PEFT has written, as people bring them, and recipes of tiny models to measure them by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from autolora.context.base import Context
from autolora.lora.stored import CONFIG
from autolora.model.fit import takes_inputs
from tests.model.folders import write_model
from tests.model.recipes import made

MODELS: dict[str, tuple[str, str, str, list[str]]] = {  # what kind, its checkpoint's class, its task, layers
    "classification": ("bert", "AutoModel", "SEQ_CLS", ["query", "intermediate.dense"]),
    "regression": ("bert", "AutoModel", "SEQ_CLS", ["value", "output.dense"]),
    "tagging": ("bert", "AutoModel", "TOKEN_CLS", ["query", "value"]),
    "gpt2": ("gpt2", "AutoModelForCausalLM", "CAUSAL_LM", ["c_attn", "mlp.c_proj"]),
    "llama": ("llama", "AutoModelForCausalLM", "CAUSAL_LM", ["q_proj", "v_proj", "down_proj"]),
    "t5": ("t5", "AutoModelForSeq2SeqLM", "SEQ_2_SEQ_LM", ["q", "EncDecAttention.v", "wo"]),
}
NAMES = {"classification": ["a", "b"], "tagging": ["O", "B-X"]}


def brought(folder: Path, name: str, /, **options: Any) -> tuple[Path, Context]:
    """An adapter in a folder of its own that has been trained as far as anybody can see, and a recipe's context.

    options: of LoraConfig, in place of the usual ones.
    """
    context = recipe_of(folder, name)
    adapter = folder / "brought"
    write_adapter(adapter, name, context, **options)
    return adapter, context


def recipe_of(folder: Path, name: str, /, **sections: Any) -> Context:
    """The context of a recipe of one of `MODELS`."""
    kind, auto_class, _, _ = MODELS[name]
    if not (folder / "model").exists():
        write_model(folder / "model", kind, auto_class, eos=kind == "t5", pair=kind == "bert")
    names = NAMES.get(name)
    given: dict[str, Any] = {
        "data": {"labels": names} if names else {},
        "retrain": {"steps": 8, "batch_size": 4, "weights": {"learning_rate": 1e-2}},
        "search": {"rank": 4},
    }
    for section, values in sections.items():
        given[section] = {**given.get(section, {}), **values}
    return made(folder, name if kind == "bert" else "generation", folder / "model", **given)


def write_adapter(adapter: Path, name: str, context: Context, **options: Any) -> None:
    """By stock PEFT alone, with factors of a trained one's kind: decaying, none of them zero."""
    _, _, task, targets = MODELS[name]
    settings: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": targets, "task_type": task, **options}
    torch.manual_seed(1)
    adapted = get_peft_model(context.model(), LoraConfig(**settings))  # type: ignore[arg-type]
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            if key.endswith(".lora_B.default.weight"):
                parameter.normal_(std=0.3).mul_(0.5 ** torch.arange(parameter.shape[1]))
            elif "lora_" not in key and parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    adapted.save_pretrained(str(adapter))


def edit_config(adapter: Path, **entries: Any) -> None:
    """Change what an adapter's configuration says."""
    content = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    (adapter / CONFIG).write_text(json.dumps({**content, **entries}), encoding="utf-8")


def stock(adapter: Path, context: Context) -> nn.Module:
    """The adapter on the recipe's model by stock PEFT alone."""
    options = context.task.head_config()
    base = getattr(transformers, context.family.auto_class).from_pretrained(
        context.recipe.model.name, dtype=torch.float32, **options
    )
    found: nn.Module = PeftModel.from_pretrained(base, adapter).eval()
    return found


@torch.no_grad()
def logits(model: nn.Module, context: Context) -> Tensor:
    """Of the training split, padded; an encoder-decoder's, of its outputs."""
    batch = context.task.collate(context.examples("train"), tokenizer=context.tokenizer)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}
    if context.family.auto_class == "AutoModelForSeq2SeqLM":
        inputs["decoder_input_ids"] = batch["labels"].clamp(min=0)
    found: Tensor = model(**takes_inputs(model, inputs)).logits
    return found
