"""``--format trl``: the LoRA part of a configuration for TRL's command line, ``trl sft --config FILE``.

What TRL reads (huggingface/trl): ``ModelConfig`` (trl/trainer/model_config.py) has one ``lora_r`` and one whole
``lora_alpha``; ``get_peft_config`` (trl/trainer/utils.py) hands PEFT neither a rank_pattern nor an alpha_pattern. Which
layers get LoRA at all can be said exactly: a list of one entry becomes a text, which PEFT takes for an expression on
full names. In Python its trainers take any LoraConfig as ``peft_config``, one with a rank for every layer among them.
"""

from __future__ import annotations

from autolora.export.base import CAUSAL_LM, Allocation, Exported, as_yaml
from autolora.export.uniform import nearest_uniform_rank, rounded_note, uniform_notes
from autolora.lora.config import target_expression

TOOL = "TRL's command line"
KEYS = (  # that this format may write; each is a field of TRL's ModelConfig
    "model_name_or_path",
    "model_revision",
    "use_peft",
    "lora_r",
    "lora_alpha",
    "lora_dropout",
    "lora_target_modules",
    "lora_modules_to_save",
    "lora_task_type",
)


def export(found: Allocation) -> Exported:
    """A part of a configuration for TRL's commands, with notes on what it cannot express.

    Args:
        found: What is exported.

    Raises:
        UserError: Every rank is 0.
    """
    rank = nearest_uniform_rank(found)
    wanted = found.ranks.alpha_at(rank)
    alpha = max(1, round(wanted))
    values = {
        "model_name_or_path": found.model,
        "model_revision": found.revision,
        "use_peft": True,
        "lora_r": rank,
        "lora_alpha": alpha,
        "lora_dropout": found.dropout,
        "lora_target_modules": [target_expression(found.target_modules)],
        "lora_modules_to_save": list(found.head) or None,
        "lora_task_type": found.task_type,
    }
    notes = [*_uniform(found, rank), *rounded_note(TOOL, "lora_alpha", wanted, alpha, rank), *_task(found)]
    return as_yaml(found, values, notes)


def _uniform(found: Allocation, rank: int) -> list[str]:
    instead = (
        f"TRL's trainers take the ranks themselves: autolora export {found.source} --format peft "
        "--output DIR/adapter_config.json, then in Python "
        'SFTTrainer(model=…, peft_config=LoraConfig.from_pretrained("DIR"), …).'
    )
    return uniform_notes(TOOL, "lora_r", found, rank, instead=instead, targets="lora_target_modules")


def _task(found: Allocation) -> list[str]:
    if found.task_type in (None, CAUSAL_LM):
        return []
    return [
        "trl sft trains causal language models, and trl reward a classifier of one output; this run's model is another "
        f"one (PEFT's task type {found.task_type}), and the module names are that model's. --format peft fits it."
    ]
