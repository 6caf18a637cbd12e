"""What makes two pretrained models the same one: their tensors, what the tokenizer does, and the architecture.

The folder or hub id is no part of it, and neither is how the tensors are divided into files.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

# Of the head, of the library, of the precision, and of what the tokenizer says: not of the architecture.
LEFT_OUT = {
    *("architectures", "auto_map", "transformers_version", "_name_or_path", "_commit_hash", "model_type"),
    *("id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params"),
    *("dtype", "torch_dtype", "use_cache", "return_dict", "output_attentions", "output_hidden_states"),
    *("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id", "chunk_size_feed_forward"),
}
_STATE = ("truncation", "padding")  # of a tokenizer, which every call changes


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 over what decides which ids a text becomes: the vocabulary, the rules around it, the special tokens.

    Args:
        tokenizer: As it was loaded.
    """
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    decoding = getattr(tokenizer, "clean_up_tokenization_spaces", None)
    sides = [tokenizer.truncation_side, decoding]
    text = json.dumps([_rules(tokenizer), special, tokenizer.all_special_ids, sides], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _rules(tokenizer: PreTrainedTokenizerBase) -> object:
    """Of a fast tokenizer all of them; of another one the vocabulary, and what it was made with."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return {key: value for key, value in json.loads(backend.to_str()).items() if key not in _STATE}
    plain = {key: value for key, value in tokenizer.init_kwargs.items() if isinstance(value, bool | int | float)}
    return [type(tokenizer).__name__, sorted(tokenizer.get_vocab().items()), plain]


def architecture(config: PreTrainedConfig) -> dict[str, Any]:
    """The entries of a configuration that say how the model computes, JSON-able.

    Args:
        config: Of the model as it was loaded.
    """
    found: dict[str, Any] = json.loads(json.dumps(config.to_dict(), default=str))
    return {key: value for key, value in found.items() if key not in LEFT_OUT and not key.startswith("_")}
