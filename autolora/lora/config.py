"""PEFT's configuration of a rank per layer: ``lora_config(ranks, task_type="SEQ_CLS")``, a stock LoraConfig.

PEFT takes the keys of its patterns for regular expressions and says nothing where one fits no module, so every key is
anchored on a full module name. Layers of rank 0 are left out of the targets, as PEFT refuses rank 0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from autolora.errors import UserError

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch import nn

    from autolora.lora.ranks import Ranks

# What PEFT trains in full beside `modules_to_save`, by task family (PeftModelForSequenceClassification and its like).
ADDED = {
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}


def lora_config(
    ranks: Ranks,
    *,
    dropout: float = 0.0,
    head: Sequence[str] = (),
    task_type: str | None = None,
    fan_in_fan_out: bool = False,
) -> LoraConfig:
    """The PEFT configuration of a rank per layer.

    Args:
        ranks: With their scaling.
        dropout: Of the update's input.
        head: Full names of the modules that are trained in full.
        task_type: PEFT's name of the task family.
        fan_in_fan_out: Whether the layers keep their weights transposed, as GPT-2's do.

    Raises:
        UserError: Every rank is 0.
    """
    from peft import LoraConfig  # slow to import

    kept = ranks.targets
    if not kept:
        raise UserError(
            "no layer kept a component: all ranks are 0, there is nothing to retrain; lower search.threshold"
        )
    return LoraConfig(
        r=ranks.initial_rank,
        lora_alpha=ranks.lora_alpha,  # type: ignore[arg-type]  # PEFT says int, and scales by any number
        target_modules=sorted(kept),
        rank_pattern={anchored(name): ranks[name] for name in kept},
        alpha_pattern={anchored(name): ranks.alpha(name) for name in kept},
        lora_dropout=dropout,
        modules_to_save=list(head) or None,
        task_type=task_type,
        fan_in_fan_out=fan_in_fan_out,
        bias="none",
    )


def exact_type(model: nn.Module, config: LoraConfig) -> None:
    """Take the task family out of a configuration where what PEFT adds for it would be trained or left out beside.

    PEFT trains in full whatever ends in one of these names, and puts no adapter on what has one among its parts.

    Args:
        model: That it is for.
        config: From `lora_config`, or another tuner's of its kind; changed in place.
    """
    head, added = config.modules_to_save or (), ADDED.get(config.task_type or "", ())
    names = [name for name, _ in model.named_modules(remove_duplicate=False)]
    saved = {name for name in names if name.endswith((*head, *added))}
    excluded = any(set(target.split(".")) & set(added) for target in config.target_modules or ())
    if saved - set(head) or excluded:
        config.task_type = None


def anchored(name: str) -> str:
    """A key of PEFT's patterns that matches this full module name and no other.

    Args:
        name: In the model itself, without PEFT's wrapping.
    """
    return "^" + re.escape(name)


def target_expression(names: Sequence[str]) -> str:
    """PEFT's `target_modules` as one expression that matches these full module names and no others.

    PEFT matches the entries of a list by their ends: a module ``query`` would adapt ``block.query`` too.

    Args:
        names: In the model itself, without PEFT's wrapping.
    """
    return f"(?:{'|'.join(re.escape(name) for name in names)})"
