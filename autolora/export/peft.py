"""``--format peft``: the JSON of a stock PEFT LoraConfig, as ``adapter_config.json`` holds it.

PEFT expresses everything: ``rank_pattern`` and ``alpha_pattern`` give every layer its rank and scaling. A key of theirs
is a regular expression that matches at the end of a module's name, after a dot or at its start (huggingface/peft,
``get_pattern_key`` in src/peft/utils/other.py); with "^" in front it matches the full name only. ``target_modules`` is
one expression that matches full names: a list would match their ends, too. A rank of 0 is refused
(src/peft/tuners/lora/layer.py), so these layers are left out of it.

    config = LoraConfig(**json.load(open("adapter_config.json")))
    config = LoraConfig.from_pretrained("folder of adapter_config.json")
"""

from __future__ import annotations

import json

from autolora.export.base import Allocation, Exported, number
from autolora.lora.config import anchored, target_expression


def export(found: Allocation) -> Exported:
    """The content of ``adapter_config.json``; there is nothing that it cannot express.

    Args:
        found: What is exported.

    Raises:
        UserError: Every rank is 0.
    """
    targets = found.target_modules
    config = {
        "peft_type": "LORA",
        "task_type": found.task_type,
        "base_model_name_or_path": found.model,
        "revision": found.revision,
        "inference_mode": False,
        "r": found.ranks.initial_rank,
        "lora_alpha": number(found.ranks.lora_alpha),
        "lora_dropout": found.dropout,
        "bias": "none",
        "fan_in_fan_out": found.fan_in_fan_out,
        "modules_to_save": list(found.head) or None,
        "target_modules": target_expression(targets),
        "rank_pattern": {anchored(name): found.ranks[name] for name in targets},
        "alpha_pattern": {anchored(name): number(found.ranks.alpha(name)) for name in targets},
    }
    return Exported(json.dumps(config, indent=2, ensure_ascii=False) + "\n", found.remarks)
