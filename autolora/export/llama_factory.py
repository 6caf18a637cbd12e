"""``--format llama-factory``: the LoRA part of a LLaMA-Factory configuration, at the nearest uniform rank.

What LLaMA-Factory reads (hiyouga/LLaMA-Factory, now LlamaFactory; files below src/llamafactory): one ``lora_rank`` and
one whole ``lora_alpha`` for all layers (``LoraArguments`` in hparams/finetuning_args.py); its LoraConfig gets neither a
rank_pattern nor an alpha_pattern (``_setup_lora_tuning`` in model/adapter.py), nor does that of its v1 rewrite
(``get_lora_model`` in v1/plugins/model_plugins/peft.py), and unknown keys are refused (``_parse_args`` in
hparams/parser.py). Which layers get LoRA at all can be said: ``lora_target`` is a list of names for PEFT, which matches
them by their ends; an expression cannot be said, as the text is divided at its commas. ``adapter_name_or_path`` goes on
training an adapter at the adapter's own ranks, unless ``create_new_adapter`` is set (model/adapter.py,
hparams/model_args.py). The task type is always CAUSAL_LM (model/adapter.py), and models are loaded as causal,
image-text, sequence-to-sequence or waveform models (model/loader.py).
"""

from __future__ import annotations

from autolora.errors import UserError
from autolora.export.base import CAUSAL_LM, Allocation, Exported, as_yaml, start_from_adapter
from autolora.export.uniform import nearest_uniform_rank, rounded_note, uniform_notes

TOOL = "LLaMA-Factory"
KEYS = (  # that this format may write; each is a field of LLaMA-Factory's arguments
    "model_name_or_path",
    "model_revision",
    "finetuning_type",
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
    "lora_target",
    "additional_target",
)


def export(found: Allocation) -> Exported:
    """A part of a LLaMA-Factory configuration, with notes on what it cannot express.

    Args:
        found: What is exported.

    Raises:
        UserError: Every rank is 0, or no list of names means these layers alone.
    """
    targets = found.target_modules
    if beside := found.matched_beside:
        raise UserError(
            f"{found.source}: LLaMA-Factory takes a list of names, which PEFT matches by their ends; that of the "
            f"layers with LoRA would adapt {', '.join(beside)} too, which has rank 0; use --format peft or axolotl"
        )
    rank = nearest_uniform_rank(found)
    wanted = found.ranks.alpha_at(rank)
    alpha = max(1, round(wanted))
    values = {
        "model_name_or_path": found.model,
        "model_revision": found.revision,
        "finetuning_type": "lora",
        "lora_rank": rank,
        "lora_alpha": alpha,
        "lora_dropout": found.dropout,
        "lora_target": ", ".join(targets),
        "additional_target": ", ".join(found.head) or None,
    }
    notes = [*_uniform(found, rank), *rounded_note(TOOL, "lora_alpha", wanted, alpha, rank), *_task(found)]
    return as_yaml(found, values, notes)


def _uniform(found: Allocation, rank: int) -> list[str]:
    trained = start_from_adapter(found, "adapter_name_or_path")
    unused = "Leave create_new_adapter out; lora_rank, lora_alpha and lora_target are then not used."
    instead = f"For the ranks themselves: {trained} {unused}"
    return uniform_notes(TOOL, "lora_rank", found, rank, instead=instead, targets="lora_target")


def _task(found: Allocation) -> list[str]:
    if found.task_type in (None, CAUSAL_LM):
        return []
    return [
        f"LLaMA-Factory trains generating models only; this run's model is another one (PEFT's task type "
        f"{found.task_type}), and the module names are that model's. --format peft fits it."
    ]
