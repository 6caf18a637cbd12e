"""``--format axolotl``: the LoRA part of an axolotl configuration, with a rank for every layer.

What axolotl reads (axolotl-ai-cloud/axolotl): its ``lora_rank_pattern`` and ``lora_alpha_pattern`` go unchanged into
PEFT's LoraConfig (``_build_lora_config_kwargs`` in src/axolotl/loaders/adapter.py; docs/lora.qmd; pull request 3673, of
2026). Both hold whole numbers (docs/lora.qmd; its tests, ``test_lora_pattern_rejects_non_int_values`` and
``..._non_positive_values``, refuse 1.5 and 0), and so does ``lora_alpha`` (src/axolotl/utils/schemas/peft.py): a
scaling that needs a fraction cannot be said. ``lora_target_modules`` is a list or a text, which goes to PEFT as it is:
an expression is written only where a list, which PEFT matches by the ends of names, would mean other layers too. With
``lora_model_dir`` the adapter's own ranks hold and the patterns are ignored (docs/lora.qmd). The task type is no
setting but follows the model's class, a sequence or token classifier being a reward model there
(``_get_peft_task_type`` in adapter.py; pull request 2241).
"""

from __future__ import annotations

import math

from autolora.export.base import CAUSAL_LM, Allocation, Exported, as_yaml, start_from_adapter
from autolora.lora.config import anchored, target_expression

KEYS = (  # that this format may write; each is a field of axolotl's configuration
    "base_model",
    "revision_of_model",
    "adapter",
    "lora_r",
    "lora_alpha",
    "lora_dropout",
    "lora_fan_in_fan_out",
    "lora_modules_to_save",
    "lora_target_linear",
    "lora_target_modules",
    "lora_rank_pattern",
    "lora_alpha_pattern",
)


def export(found: Allocation) -> Exported:
    """A part of an axolotl configuration, with notes where an alpha had to be rounded or the task is another.

    Args:
        found: What is exported.

    Raises:
        UserError: Every rank is 0.
    """
    targets = found.target_modules
    alphas = {name: _whole(found.ranks.alpha(name)) for name in targets}
    values = {
        "base_model": found.model,
        "revision_of_model": found.revision,
        "adapter": "lora",
        "lora_r": found.ranks.initial_rank,
        "lora_alpha": _whole(found.ranks.lora_alpha),
        "lora_dropout": found.dropout,
        "lora_fan_in_fan_out": found.fan_in_fan_out or None,
        "lora_modules_to_save": list(found.head) or None,
        "lora_target_linear": False,  # true would add every other linear layer to the targets
        "lora_target_modules": target_expression(targets) if found.matched_beside else targets,
        "lora_rank_pattern": {anchored(name): found.ranks[name] for name in targets},
        "lora_alpha_pattern": {anchored(name): alpha for name, alpha in alphas.items()},
    }
    return as_yaml(found, values, [*_version(), *_rounded(found, alphas), *_task(found)])


def _version() -> list[str]:
    return [
        "lora_rank_pattern and lora_alpha_pattern need an axolotl that has its pull request 3673 (2026); an older one "
        "does not know them."
    ]


def _rounded(found: Allocation, alphas: dict[str, int]) -> list[str]:
    """What to say where a scaling needs a fraction."""
    off = {name: found.ranks.alpha(name) for name in alphas if not math.isclose(found.ranks.alpha(name), alphas[name])}
    if not off:
        return []
    worst = max(off, key=lambda name: abs(alphas[name] / off[name] - 1))
    rank = found.ranks[worst]
    return [
        f"axolotl takes whole numbers as lora_alpha_pattern, which cannot express the scaling of {len(off)} of "
        f"{len(alphas)} layers: their alpha is rounded, in the worst of them ({worst}) from {off[worst]:.4g} to "
        f"{alphas[worst]}, which makes the scaling {alphas[worst] / rank:.4g} instead of {off[worst] / rank:.4g}. "
        "The ranks are exact. " + start_from_adapter(found, "lora_model_dir")
    ]


def _task(found: Allocation) -> list[str]:
    if found.task_type in (None, CAUSAL_LM):
        return []
    return [
        "axolotl trains causal language models, and classifiers only as reward models; this run's model is another "
        f"one (PEFT's task type {found.task_type}), and the module names are that model's. --format peft fits it."
    ]


def _whole(value: float) -> int:
    return max(1, round(value))
