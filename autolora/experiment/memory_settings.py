"""What a run's memory depends on, beside the model, and what takes less: ``lighter(settings)``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

Storage = Literal["float32", "bfloat16", "int8", "nf4"]
QUANTISED = ("int8", "nf4")


@dataclass(frozen=True)
class MemorySettings:
    """What a run's memory depends on, beside the model.

    Args:
        targets: As `model.target_modules`: names, "all-linear", or None for the architecture's own.
        rank: k.
        tokens: Of the longest example.
        search_examples: Of a micro-batch of the search.
        retrain_examples: Likewise of the retraining, and of measuring.
        precision: Of passes.
        base: How the base's weights are stored.
        gradient_checkpointing: Whether blocks are run again in the backward pass.
        dropout: Of LoRA's input.
        estimator: Of the hypergradient; another name than those of `autolora.experiment.memory.COPIES`: one level.
        measured: Examples that Fisher information is measured on.
        new_head: Whether the task adds a head, which is trained.
        chunked: Whether large logits are made a chunk at a time.
        cards: N; micro-batches are those of one card.
    """

    targets: tuple[str, ...] | str | None
    rank: int = 8
    tokens: int = 128
    search_examples: int = 16
    retrain_examples: int = 16
    precision: Literal["float32", "bfloat16"] = "float32"
    base: Storage = "float32"
    gradient_checkpointing: bool = False
    dropout: float = 0.0
    estimator: str = "central_difference"
    measured: int = 250
    new_head: bool = False
    chunked: bool = True
    cards: int = 1

    @property
    def shared(self) -> bool:
        """Whether each card has a share of the base, and not all of it."""
        return self.cards > 1 and self.base not in QUANTISED


def lighter(settings: MemorySettings) -> Iterator[tuple[str, MemorySettings]]:
    """Settings that take less, one change at a time, and what is changed, as one writes it in a recipe.

    Args:
        settings: As they are.
    """
    if settings.precision == "float32":
        yield "model.dtype: bfloat16", replace(settings, precision="bfloat16")
    if settings.base == "float32":
        yield "model.base_dtype: bfloat16", replace(settings, base="bfloat16", precision="bfloat16")
    if settings.base in ("float32", "bfloat16"):
        whole = ", without --use_fsdp" if settings.shared else ""
        yield f"model.quantization: nf4{whole}", replace(settings, base="nf4", precision="bfloat16")
    if not settings.gradient_checkpointing:
        yield "model.gradient_checkpointing: true", replace(settings, gradient_checkpointing=True)
    if max(settings.search_examples, settings.retrain_examples) > 1:
        halved = {name: -(-getattr(settings, name) // 2) for name in ("search_examples", "retrain_examples")}
        yield "gradient_accumulation twice as high", replace(settings, **halved)
    if settings.tokens > 1:
        yield f"data.max_length: {settings.tokens // 2}", replace(settings, tokens=settings.tokens // 2)
