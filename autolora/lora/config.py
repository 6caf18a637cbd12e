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

    from autolora.lora.ranks import Ranks


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
