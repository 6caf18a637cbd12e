"""What a model folder's config.json says, read without any library: ``config = read_config(folder)``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from autolora.errors import UserError
from autolora.files import parse_json

OUTPUT = "lm_head"  # what transformers calls a language model's output embeddings, mostly
# Architectures whose tokens see those that come later, unless they were made decoders.
ENCODERS = frozenset(
    {
        *("albert", "bert", "camembert", "convbert", "deberta", "deberta-v2", "distilbert", "electra", "ernie"),
        *("eurobert", "flaubert", "fnet", "funnel", "longformer", "megatron-bert", "mobilebert", "modernbert", "mpnet"),
        *("nomic_bert", "rembert", "roberta", "roberta-prelayernorm", "roformer", "squeezebert", "xlm-roberta"),
        *("xlm-roberta-xl", "xlnet", "xmod"),
    }
)


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a transformers model.

    Args:
        folder: With a config.json.

    Raises:
        UserError: The file is no JSON, or about something else.
    """
    path = folder / "config.json"
    try:
        config: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
        str(config["model_type"])
    except (KeyError, TypeError):
        raise UserError(f"{path} names no model_type, so it is not a transformers model") from None
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}") from None
    return config


def is_encoder(config: Mapping[str, Any]) -> bool:
    """Whether it is known of the architecture that its tokens see those that come later.

    Args:
        config: From `read_config`.
    """
    return config["model_type"] in ENCODERS and not config.get("is_decoder", False)


def ties_output(config: Mapping[str, Any], tensors: Iterable[str]) -> bool:
    """Whether the output embeddings are the input's; where the configuration is silent, the checkpoint lacks them then.

    Args:
        config: From `read_config`.
        tensors: Names in the weight file.
    """
    said = config.get("tie_word_embeddings")
    return bool(said) if said is not None else not any(name.endswith(f"{OUTPUT}.weight") for name in tensors)
