"""Folders of tiny random models with a tokenizer of a few words: ``write_model(folder, "gpt2")``.

Nothing is downloaded. Weights are larger than a fresh model's, so that what is wrong shows in the logits.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
WORDS = [*SPECIAL, "a", "b", "c", "d", "e", "f", "g", "h"]
HIDDEN = 16
_SIZE: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 2 * HIDDEN,
    "max_position_embeddings": 40,
}
_T5 = {"d_model": HIDDEN, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
_BART = {
    "d_model": HIDDEN,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 40,
    "decoder_start_token_id": 2,
}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", _SIZE),
    "roberta": ("RobertaConfig", _SIZE),
    "electra": ("ElectraConfig", {**_SIZE, "embedding_size": HIDDEN}),
    "distilbert": ("DistilBertConfig", {"dim": HIDDEN, "n_layers": 2, "n_heads": 2, "hidden_dim": 24}),
    "xlnet": ("XLNetConfig", {"d_model": HIDDEN, "n_layer": 2, "n_head": 2, "d_inner": 24}),
    "gpt2": ("GPT2Config", {"n_embd": HIDDEN, "n_layer": 2, "n_head": 2, "n_positions": 40}),
    "llama": ("LlamaConfig", {**_SIZE, "num_key_value_heads": 1}),
    "opt": ("OPTConfig", {**_SIZE, "ffn_dim": 24, "word_embed_proj_dim": HIDDEN}),
    "bloom": ("BloomConfig", {"hidden_size": HIDDEN, "n_layer": 2, "n_head": 2}),
    "mixtral": ("MixtralConfig", {**_SIZE, "num_key_value_heads": 1, "num_local_experts": 2, "sliding_window": None}),
    "phi3": ("Phi3Config", {**_SIZE, "num_key_value_heads": 1, "sliding_window": None}),
    "t5": ("T5Config", {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "bart": ("BartConfig", _BART),
}


def write_model(
    folder: Path,
    kind: str,
    auto_class: str = "AutoModel",
    *,
    tokenizer: dict[str, Any] | None = None,
    pair: bool = False,
    eos: bool = False,
    **config: Any,
) -> Path:
    """A model folder.

    auto_class: what the checkpoint is of. tokenizer: changes to its arguments; None for a value takes it out. pair: the
    tokenizer knows how to write pairs. eos: it ends every text with </s>. config: changes to the model's.
    """
    import transformers

    name, size = CONFIGS[kind]
    common: dict[str, Any] = {"vocab_size": len(WORDS), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    common |= {"initializer_range": 0.4, "init_std": 0.4, "initializer_factor": 4.0}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = getattr(transformers, name)(**(common | size | config))
        getattr(transformers, auto_class).from_config(made).save_pretrained(folder)
    write_tokenizer(folder, tokenizer or {}, pair=pair, eos=eos)
    return folder


def write_tokenizer(folder: Path, changes: dict[str, Any], *, pair: bool = False, eos: bool = False) -> None:
    """A tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    if pair or eos:
        words.post_processor = TemplateProcessing(  # type: ignore[assignment]
            single="<s> $A </s>" if pair else "$A </s>",
            pair="<s> $A </s> $B:1 </s>:1" if pair else "$A $B </s>",
            special_tokens=[("<s>", 1), ("</s>", 2)],
        )
    special: dict[str, Any] = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    special |= {"model_input_names": ["input_ids", "attention_mask"]} | changes
    given = {key: value for key, value in special.items() if value is not None}
    PreTrainedTokenizerFast(tokenizer_object=words, **given).save_pretrained(folder)


def edit_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a JSON file in place."""
    import json

    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
