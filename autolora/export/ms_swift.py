"""``--format ms-swift``: the LoRA part of a configuration for ms-swift, ``swift sft --config FILE``.

What ms-swift reads (modelscope/ms-swift, version 4; files below swift): one ``lora_rank`` and one ``lora_alpha`` for
all layers (``TunerArguments`` in arguments/tuner_args.py), of which ``prepare_adapter`` in pipelines/train/tuner.py
makes a LoraConfig without rank_pattern or alpha_pattern. ``target_regex`` goes to PEFT as it is and means full names.
``adapters`` goes on training an adapter at the adapter's own ranks (arguments/base_args/base_args.py). The keys of the
file become command-line arguments (cli/main.py). What is ``tuner_type`` here was ``train_type`` in version 3.
"""

from __future__ import annotations

from autolora.export.base import CAUSAL_LM, Allocation, Exported, as_yaml, number, start_from_adapter
from autolora.export.uniform import nearest_uniform_rank, uniform_notes
from autolora.files import is_path
from autolora.lora.config import target_expression

TOOL = "ms-swift"
TASKS = {CAUSAL_LM: "causal_lm", "SEQ_CLS": "seq_cls"}  # ms-swift's name, by PEFT's
KEYS = (  # that this format may write; each is a field of ms-swift's arguments
    "model",
    "model_revision",
    "task_type",
    "tuner_type",
    "tuner_backend",
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
    "target_regex",
    "modules_to_save",
)


def export(found: Allocation) -> Exported:
    """A part of an ms-swift configuration, with notes on what it cannot express.

    Args:
        found: What is exported.

    Raises:
        UserError: Every rank is 0.
    """
    rank = nearest_uniform_rank(found)
    values = {
        "model": found.model,
        "model_revision": found.revision,
        "task_type": TASKS.get(str(found.task_type)),
        "tuner_type": "lora",
        "tuner_backend": "peft",
        "lora_rank": rank,
        "lora_alpha": number(found.ranks.alpha_at(rank)),
        "lora_dropout": found.dropout,
        "target_regex": target_expression(found.target_modules),
        "modules_to_save": list(found.head) or None,
    }
    return as_yaml(found, values, [*_uniform(found, rank), *_task(found), *_hub(found)])


def _uniform(found: Allocation, rank: int) -> list[str]:
    trained = start_from_adapter(found, "adapters")
    instead = f"For the ranks themselves: {trained} lora_rank, lora_alpha and target_regex are then not used."
    return uniform_notes(TOOL, "lora_rank", found, rank, instead=instead, targets="target_regex")


def _task(found: Allocation) -> list[str]:
    if found.task_type is None or found.task_type in TASKS:
        needs = "ms-swift needs num_labels beside task_type: seq_cls; add it."
        return [needs] if found.task_type == "SEQ_CLS" else []
    return [
        f"ms-swift has no task like this run's (PEFT's task type {found.task_type}), and the module names are that "
        "model's. --format peft fits it."
    ]


def _hub(found: Allocation) -> list[str]:
    if is_path(found.model):
        return []
    return ["ms-swift fetches models from ModelScope; for the Hugging Face hub add use_hf: true."]
