"""Which of PEFT's settings an adapter may have that is read without its model: ``check_settings(path, config)``.

Every setting is in one of these lists. What is in none may change what is computed, and is refused where it says
something: a later PEFT has settings that this version has not heard of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autolora.errors import UserError
from autolora.lora.config import changes_base
from autolora.lora.stored import SHAPES
from autolora.words import did_you_mean

# How the update is made: its factors, its scaling, and where it goes.
UPDATE = (
    *("peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "layer_replication"),
    *("use_dora", "lora_bias", "bias", "alora_invocation_tokens"),
)
# What is trained beside it, and where it comes from; it all stays as it is.
BESIDE = (
    *("modules_to_save", "trainable_token_indices", "ensure_weight_tying"),
    *("task_type", "base_model_name_or_path", "revision", "auto_mapping", "inference_mode", "peft_version"),
)
# Of the training, or of a setting that is off here.
TRAINING = (
    *("lora_dropout", "init_lora_weights", "loftq_config", "eva_config", "corda_config", "lora_ga_config"),
    *("qalora_group_size", "megatron_core", "runtime_config"),
)
KNOWN = (*UPDATE, *BESIDE, *TRAINING)

MERGE = "merge it into its model with PEFT's merge_and_unload() and go on from there"
REFUSED = {  # with what they are
    "target_parameters": "LoRA on the stacked weights of experts, which all have to keep one rank",
    "use_qalora": "QA-LoRA, whose factors belong to groups of a quantised weight",
    "velora_config": "VeLoRA",
    "monteclora_config": "MonteCLoRA, whose update is drawn anew each time",
    "use_bdlora": "BD-LoRA, whose factors are block-diagonal and would not stay so",
    "arrow_config": "Arrow, which weighs several adapters by their own singular vectors",
    "kasa_config": "KaSA, which changes the weights of the base model by the rank",
    "megatron_config": "a Megatron adapter",
}
SWITCHES = ("use_rslora", "use_dora", "lora_bias", "ensure_weight_tying")


def check_settings(path: Path, config: Mapping[str, Any]) -> None:
    """Make sure that an adapter can be read without its model.

    Args:
        path: The file.
        config: Its content.

    Raises:
        UserError: A setting says otherwise; the message names it, and what to do.
    """
    for fault in _faults(config):
        raise UserError(f"{path}: {fault}")


def _faults(config: Mapping[str, Any]) -> Iterator[str]:
    kind = config.get("peft_type")
    if kind != "LORA":
        yield (
            f"peft_type is {str(kind)[:80]!r}, and only a LORA has factors that can be cut down; "
            "peft.save_as_lora(folder, model, rank=…) makes a LoRA of other adapters"
        )
    for key, what in REFUSED.items():
        if config.get(key):
            yield f"{key} is {str(config[key])[:80]!r}: {what}; this cannot be compressed; {MERGE}"
    for key in sorted(config.keys() - {*KNOWN, *REFUSED}):
        if config[key]:
            near = did_you_mean(key, KNOWN)
            yield (
                f"{key} is {str(config[key])[:80]!r}, a setting that this version of autolora does not know"
                f"{f' ({near})' if near else ''}; it may change what is computed, so nothing is written; remove it if "
                "it does not"
            )
    yield from _values(config)


def _values(config: Mapping[str, Any]) -> Iterator[str]:
    for key in SWITCHES:
        if not isinstance(config.get(key), bool | None):
            yield f"{key} must be true or false, got {str(config[key])[:80]!r}"
    if config.get("bias") not in (None, "none", "all", "lora_only"):
        yield f"bias must be 'none', 'all' or 'lora_only', got {str(config['bias'])[:80]!r}"
    for key in ("r", "lora_alpha"):
        if config.get(key) is None:
            yield f"{key} is missing"
    if not SHAPES["alpha_pattern"](config.get("rank_pattern") or {}):
        yield "rank_pattern must be ranks by regular expression"
    start = config.get("init_lora_weights", True)
    if changes_base(start):
        yield (
            f"init_lora_weights is {str(start)[:80]!r}: PEFT changes the weights of the base model by it when it loads "
            "the adapter, and by another rank it would change them differently; save the adapter with save_pretrained("
            "…, path_initial_model_for_weight_conversion=…), which makes a plain LoRA of it"
        )
