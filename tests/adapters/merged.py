"""Adapters of stock PEFT on tiny models, and what base and adapter compute together against what a merged folder does.

case = made(tmp_path, "llama", "AutoModelForCausalLM", LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
assert_same(case, merge_adapter(case.adapter, tmp_path / "merged", Model(name=str(case.base))))
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftConfig, get_peft_model
from torch import Tensor, nn

from autolora.adapters.merge import Merged
from tests.model.folders import WORDS, write_model

IDS = torch.tensor([[4, 5, 6, 7, 8, 9], [9, 4, 4, 10, 11, 5]])


@dataclass(frozen=True)
class Case:
    """base, adapter: folders. logits: of stock PEFT in float32. kind: of transformers."""

    base: Path
    adapter: Path
    kind: str
    logits: Tensor


def made(
    folder: Path,
    kind: str,
    auto_class: str,
    config: PeftConfig,
    *,
    adapted_class: str | None = None,
    dtype: torch.dtype = torch.float32,
    options: dict[str, Any] | None = None,
    **model: Any,
) -> Case:
    """An adapter whose weights are all random on a tiny model.

    adapted_class: what the checkpoint is loaded as for it. options: of `from_pretrained`. model: its configuration.
    """
    base = write_model(folder / "base", kind, auto_class, **model)
    if dtype != torch.float32:
        loaded = getattr(transformers, auto_class).from_pretrained(base)
        loaded.to(dtype).save_pretrained(base)
    cls = getattr(transformers, adapted_class or auto_class)
    torch.manual_seed(1)
    adapted = get_peft_model(cls.from_pretrained(base, dtype=torch.float32, **(options or {})), config)
    randomise(adapted)
    adapted.eval()
    adapted.save_pretrained(folder / "adapter")
    return Case(base, folder / "adapter", adapted_class or auto_class, logits(adapted))


@torch.no_grad()
def randomise(adapted: nn.Module) -> None:
    """Whatever is trained is far from where it began."""
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad or "modules_to_save" in name:
            parameter.add_(torch.randn(parameter.shape) * 0.3)


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    more = {"decoder_input_ids": IDS} if getattr(model.config, "is_encoder_decoder", False) else {}
    found = model(input_ids=IDS, attention_mask=torch.ones_like(IDS), **more)
    return (found.logits if hasattr(found, "logits") else found[0]).float()


def reloaded(found: Merged, kind: str, **options: Any) -> Any:
    """The merged folder as transformers alone loads it."""
    return getattr(transformers, kind).from_pretrained(found.path, **options).eval()


def assert_same(case: Case, found: Merged, tolerance: float = 1e-4) -> Any:
    """The merged model computes what base and adapter do, and something else than the base alone."""
    model = reloaded(found, case.kind)
    assert type(model).__name__ == found.model_class
    got = logits(model)
    torch.testing.assert_close(got, case.logits, rtol=0, atol=tolerance)
    assert not list(found.path.glob("adapter*"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(found.path)
    assert tokenizer("a b")["input_ids"] == [WORDS.index("a"), WORDS.index("b")]
    return model
