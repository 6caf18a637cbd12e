"""What a model's configuration says of its size, and which layers PEFT adapts; read without any library."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TABLE = "TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING"
# Learned or rotary positions by another name than max_position_embeddings (T5's n_positions bounds nothing).
N_POSITIONS = frozenset({"gpt2", "openai-gpt", "gpt_bigcode", "ctrl", "codegen", "gptj"})
AFTER_PADDING = frozenset({"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm", "xmod"})


def positions(config: Mapping[str, Any]) -> int | None:
    """How many tokens a model has positions for; None where the configuration does not say.

    Args:
        config: From `autolora.model.config.read_config`.
    """
    named = "n_positions" if config["model_type"] in N_POSITIONS else "max_position_embeddings"
    found = _whole(config.get(named))
    if found is None or config["model_type"] not in AFTER_PADDING:
        return found
    padding = config.get("pad_token_id", 1)  # RoBERTa counts its positions from there
    return found - padding - 1 if isinstance(padding, int) and 0 <= padding < found - 1 else found


@cache
def default_names(model_type: str) -> tuple[str, ...] | str | None:
    """What PEFT adapts of an architecture where a recipe names no layers: names or a pattern; None where it has none.

    Its table is read from PEFT's source: importing it takes seconds.

    Args:
        model_type: As a configuration has it.
    """
    spec = find_spec("peft")
    source = Path(spec.origin).parent / "utils" / "constants.py" if spec and spec.origin else None
    if source is None or not source.is_file():
        return None
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and _names(node, TABLE):
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == model_type:
                    found = ast.literal_eval(value)
                    return found if isinstance(found, str) else tuple(found)
    return None


def _names(node: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in node.targets)


def _whole(value: object) -> int | None:
    """A whole number above 0; XLNet, which has no maximum, says -1."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
