"""Small tokenizers of the classes and with the special tokens that people's models have, trained on a few sentences.

    tokenizer = trained("roberta")

transformers trains one of the same class, template and special tokens from an empty one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

SENTENCES = [
    "Anna saw a red bird in Oslo",
    "the old dog sleeps",
    "Peter never sings in the morning",
    "a train to Rome leaves at nine",
    "we like green tea",
    "Maria and Paul went to Kyiv in the spring",
    "it rains again",
    "the river near Bonn is cold and wide",
]
WORDS = 300  # pieces of a vocabulary: the 256 bytes and some that were joined
FEW = 90  # where pieces may reach over spaces, or sentences would be one

_FAIRSEQ = {
    "<s>": 0,
    "<pad>": 1,
    "</s>": 2,
    "<unk>": 3,
    "<mask>": 4,
}  # the ids matter: MPNet counts its positions from 1
_BYTES = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
# Class, pieces, arguments.
_KINDS: Mapping[str, tuple[str, int, dict[str, Any]]] = {
    "bert": ("BertTokenizer", WORDS, {}),
    "distilbert": ("DistilBertTokenizer", WORDS, {}),
    "mpnet": ("MPNetTokenizer", WORDS, {"vocab": {**_FAIRSEQ, "[UNK]": 5}}),
    "roberta": ("RobertaTokenizer", WORDS, {"vocab": _FAIRSEQ, "merges": []}),
    "xlm-roberta": ("XLMRobertaTokenizer", WORDS, {}),
    "albert": ("AlbertTokenizer", WORDS, {}),
    "deberta-v2": ("DebertaV2Tokenizer", WORDS, {}),
    "gpt2": ("GPT2Tokenizer", WORDS, _BYTES),
    "opt": (
        "GPT2Tokenizer",
        WORDS,
        {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>", "add_bos_token": True},
    ),
    "gpt_neox": ("GPTNeoXTokenizer", WORDS, _BYTES | {"pad_token": "<|padding|>"}),
    "llama": ("LlamaTokenizer", FEW, {"add_bos_token": True}),
    "phi3": ("LlamaTokenizer", FEW, {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}),
    "qwen2": ("Qwen2Tokenizer", WORDS, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}),
    "gemma": ("GemmaTokenizer", FEW, {"add_bos_token": True}),
    "t5": ("T5Tokenizer", WORDS, {"extra_ids": 0}),
}
# Bytes again, under tokens and a template of their own; their hub folders name no class.
_PLAIN: Mapping[str, dict[str, str]] = {
    "modernbert": {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    | {"mask_token": "[MASK]"},
    "llama3": {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
    "bloom": {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"},
}


@cache
def trained(kind: str) -> Any:
    """The tokenizer of a kind."""
    import transformers

    if kind in _PLAIN:
        return _plain(_PLAIN[kind])
    name, size, arguments = _KINDS[kind]
    empty = getattr(transformers, name)(**arguments)
    return empty.train_new_from_iterator(SENTENCES, size, show_progress=False)


def _plain(special: dict[str, str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    made: Any = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options: dict[str, Any] = {"special_tokens": [*special.values()], "initial_alphabet": alphabet}
    made.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=WORDS, show_progress=False, **options))
    if "cls_token" in special:
        both = [(special[token], made.token_to_id(special[token])) for token in ("cls_token", "sep_token")]
        made.post_processor = TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", both)
    if len(special) == 2:  # Llama 3's begins every text
        begin = special["bos_token"]
        both = [(begin, made.token_to_id(begin))]
        made.post_processor = TemplateProcessing(f"{begin} $A", f"{begin} $A {begin} $B", both)
    inputs = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=made, model_input_names=inputs, **special)
