"""Architectures that people have, and what autolora does with each: the table of the tests and of docs/models.md.

    folder = write_checkpoint(tmp_path / "model", ARCHITECTURES["RoBERTa"])

Models are tiny, random, in float32, and saved as the class that a checkpoint on the hub is of, so that what a task's
model lacks or has more is as it is for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.model.trained import trained

HIDDEN = 16
FAMILIES = ("classification", "regression", "tagging", "generation")
SEQUENCES = ("classification", "regression")
UNDERSTANDS = (*SEQUENCES, "tagging")
EVERYTHING = FAMILIES


@dataclass(frozen=True)
class Architecture:
    """One of them.

    Args:
        hub: Names that people write as `model.name`.
        checkpoint: transformers' class of such a checkpoint.
        config: What its configuration says, made small.
        tokenizer: A kind of `trained`.
        targets: The last parts of the layers' names that get LoRA by default.
        listed: Whether PEFT has them in its table; else they are every linear layer of the backbone.
        families: Which of `FAMILIES` it fits; the others are refused.
        head: Full names of the modules that are the head of a sequence's model, and of a tagger's.
        pooled: Targets that a tagger does not have.
        tied: Whether a generator's output embeddings are its input embeddings, so that they cannot be a head.
        refused: Names of `model.target_modules` that are refused, because they are parameters and no layers.
        remark: What else there is to know, as Markdown.
    """

    hub: tuple[str, ...]
    checkpoint: str
    config: Mapping[str, Any]
    tokenizer: str
    targets: tuple[str, ...]
    listed: bool
    families: tuple[str, ...]
    head: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pooled: tuple[str, ...] = ()
    tied: bool = False
    refused: tuple[str, ...] = ()
    remark: str = ""


_SIZE: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 80,
}
_GROUPED = {**_SIZE, "num_key_value_heads": 1}  # queries share keys and values
_HEADED = {**_GROUPED, "head_dim": 8}
_EXPERTS = {"num_experts_per_tok": 2}
_T5 = {"d_model": HIDDEN, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
_BART = {
    "d_model": HIDDEN,
    **{f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in (("layers", 2), ("attention_heads", 2))},
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 80,
    "decoder_start_token_id": 2,
}
_DEBERTA = {"relative_attention": True, "position_biased_input": False, "type_vocab_size": 0}
_DEBERTA |= {"pos_att_type": ["p2c", "c2p"], "position_buckets": 16, "share_att_key": True}
_DEBERTA |= {"norm_rel_ebd": "layer_norm", "max_relative_positions": -1, "pooler_hidden_size": HIDDEN}

_CLASSIFIER = {"sequence": ("classifier",), "tagging": ("classifier",)}
_SCORE = {"sequence": ("score",), "tagging": ("score",)}
_QUERY_VALUE, _QV_PROJ = ("query", "value"), ("q_proj", "v_proj")
_TIED = "output embeddings tied to the input's, so `lm_head` cannot be a head"
_FREE = "`lm_head` may be named as a head in generation"

ARCHITECTURES: Mapping[str, Architecture] = {
    "BERT": Architecture(
        ("google-bert/bert-base-uncased",),
        "BertForPreTraining",
        _SIZE,
        "bert",
        _QUERY_VALUE,
        True,
        UNDERSTANDS,
        _CLASSIFIER,
        remark="a checkpoint without a pooler (saved from a masked language model) needs `head: [pooler, classifier]` "
        "for sequences",
    ),
    "RoBERTa": Architecture(
        ("FacebookAI/roberta-base",),
        "RobertaForMaskedLM",
        {**_SIZE, "type_vocab_size": 1},
        "roberta",
        _QUERY_VALUE,
        True,
        UNDERSTANDS,
        _CLASSIFIER,
    ),
    "DistilBERT": Architecture(
        ("distilbert/distilbert-base-uncased",),
        "DistilBertForMaskedLM",
        {"dim": HIDDEN, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 80},
        "distilbert",
        ("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"),
        False,
        UNDERSTANDS,
        {"sequence": ("pre_classifier", "classifier"), "tagging": ("classifier",)},
        remark="PEFT trains `pre_classifier` along with `classifier`: name both, or leave `head` out",
    ),
    "ELECTRA": Architecture(
        ("google/electra-small-discriminator",),
        "ElectraForPreTraining",
        {**_SIZE, "embedding_size": 12},
        "bert",
        _QUERY_VALUE,
        True,
        UNDERSTANDS,
        _CLASSIFIER,
        remark="the discriminator",
    ),
    "ALBERT": Architecture(
        ("albert/albert-base-v2",),
        "AlbertForPreTraining",
        {**_SIZE, "embedding_size": 12, "num_hidden_groups": 1},
        "albert",
        ("embedding_hidden_mapping_in", "query", "key", "value", "dense", "ffn", "ffn_output"),
        False,
        UNDERSTANDS,
        _CLASSIFIER,
        pooled=("pooler",),
        remark="all layers share one set of weights, so one rank a projection serves them all",
    ),
    "DeBERTa-v2": Architecture(
        ("microsoft/deberta-v2-xlarge",),
        "DebertaV2ForMaskedLM",
        {**_SIZE, **_DEBERTA, "conv_kernel_size": 3, "conv_act": "gelu"},
        "deberta-v2",
        ("query_proj", "value_proj"),
        True,
        UNDERSTANDS,
        {"sequence": ("pooler", "classifier"), "tagging": ("classifier",)},
        remark="checkpoints have no pooler; it belongs to the head",
    ),
    "DeBERTa-v3": Architecture(
        ("microsoft/deberta-v3-base",),
        "DebertaV2ForMaskedLM",
        {**_SIZE, **_DEBERTA},
        "deberta-v2",
        ("query_proj", "value_proj"),
        True,
        UNDERSTANDS,
        {"sequence": ("pooler", "classifier"), "tagging": ("classifier",)},
        remark="as DeBERTa-v2",
    ),
    "ModernBERT": Architecture(
        ("answerdotai/ModernBERT-base",),
        "ModernBertForMaskedLM",
        {**_SIZE, "global_attn_every_n_layers": 2, "local_attention": 8},
        "modernbert",
        ("Wqkv", "Wo", "Wi"),
        False,
        UNDERSTANDS,
        {"sequence": ("head", "classifier"), "tagging": ("head", "classifier")},
        remark="queries, keys and values are one layer, `Wqkv`: they have one rank",
    ),
    "MPNet": Architecture(
        ("microsoft/mpnet-base", "sentence-transformers/all-mpnet-base-v2"),
        "MPNetForMaskedLM",
        _SIZE,
        "mpnet",
        ("q", "k", "v", "o", "dense"),
        False,
        UNDERSTANDS,
        _CLASSIFIER,
    ),
    "XLM-R": Architecture(
        ("FacebookAI/xlm-roberta-base",),
        "XLMRobertaForMaskedLM",
        {**_SIZE, "type_vocab_size": 1},
        "xlm-roberta",
        _QUERY_VALUE,
        True,
        UNDERSTANDS,
        _CLASSIFIER,
    ),
    "GPT-2": Architecture(
        ("openai-community/gpt2",),
        "GPT2LMHeadModel",
        {"n_embd": HIDDEN, "n_layer": 2, "n_head": 2, "n_positions": 80},
        "gpt2",
        ("c_attn",),
        True,
        EVERYTHING,
        {"sequence": ("score",), "tagging": ("classifier",)},
        tied=True,
        remark="layers are Conv1D; queries, keys and values are one, `c_attn`; pads with `<|endoftext|>`",
    ),
    "OPT": Architecture(
        ("facebook/opt-125m",),
        "OPTForCausalLM",
        {**_SIZE, "ffn_dim": 24, "word_embed_proj_dim": HIDDEN},
        "opt",
        _QV_PROJ,
        True,
        (*SEQUENCES, "generation"),
        {"sequence": ("score",)},
        tied=True,
    ),
    "BLOOM": Architecture(
        ("bigscience/bloom-560m",),
        "BloomForCausalLM",
        {"hidden_size": HIDDEN, "n_layer": 2, "n_head": 2},
        "bloom",
        ("query_key_value",),
        True,
        EVERYTHING,
        {"sequence": ("score",), "tagging": ("classifier",)},
        tied=True,
        remark="queries, keys and values are one layer",
    ),
    "GPT-NeoX": Architecture(
        ("EleutherAI/pythia-70m",),
        "GPTNeoXForCausalLM",
        _SIZE,
        "gpt_neox",
        ("query_key_value",),
        True,
        EVERYTHING,
        {"sequence": ("score",), "tagging": ("classifier",)},
        remark="queries, keys and values are one layer; the output embeddings are called `embed_out`",
    ),
    "Llama": Architecture(
        ("meta-llama/Llama-2-7b-hf", "HuggingFaceTB/SmolLM2-135M"),
        "LlamaForCausalLM",
        _GROUPED,
        "llama",
        _QV_PROJ,
        True,
        EVERYTHING,
        _SCORE,
        remark="a tokenizer without a padding token pads with its end-of-sequence token",
    ),
    "Mistral": Architecture(
        ("mistralai/Mistral-7B-v0.1",),
        "MistralForCausalLM",
        {**_HEADED, "sliding_window": 32},
        "llama",
        _QV_PROJ,
        True,
        EVERYTHING,
        _SCORE,
    ),
    "Qwen2": Architecture(
        ("Qwen/Qwen2.5-0.5B",),
        "Qwen2ForCausalLM",
        {**_GROUPED, "tie_word_embeddings": True},
        "qwen2",
        _QV_PROJ,
        True,
        EVERYTHING,
        _SCORE,
        tied=True,
        remark="tied in the small ones (0.5B to 3B)",
    ),
    "Qwen3": Architecture(
        ("Qwen/Qwen3-0.6B",),
        "Qwen3ForCausalLM",
        {**_HEADED, "tie_word_embeddings": True},
        "qwen2",
        _QV_PROJ,
        True,
        EVERYTHING,
        _SCORE,
        tied=True,
        remark="tied in the small ones (0.6B to 4B)",
    ),
    "Gemma 2": Architecture(
        ("google/gemma-2-2b",),
        "Gemma2ForCausalLM",
        {**_HEADED, "query_pre_attn_scalar": 8, "sliding_window": 32},
        "gemma",
        _QV_PROJ,
        True,
        EVERYTHING,
        _SCORE,
        tied=True,
    ),
    "Gemma 3": Architecture(
        ("google/gemma-3-1b-pt", "google/gemma-3-270m"),
        "Gemma3ForCausalLM",
        {**_HEADED, "query_pre_attn_scalar": 8, "sliding_window": 32},
        "gemma",
        _QV_PROJ,
        True,
        (*SEQUENCES, "generation"),
        {"sequence": ("score",)},
        tied=True,
        remark="those for text alone; with images (4B and up) not tried",
    ),
    "Phi-3": Architecture(
        ("microsoft/Phi-3-mini-4k-instruct",),
        "Phi3ForCausalLM",
        {**_SIZE, "num_key_value_heads": 2, "sliding_window": 32},
        "phi3",
        ("o_proj", "qkv_proj", "gate_up_proj", "down_proj"),
        False,
        EVERYTHING,
        _SCORE,
        remark="queries, keys and values are one layer, `qkv_proj`, gate and up another, `gate_up_proj`",
    ),
    "Mixtral": Architecture(
        ("mistralai/Mixtral-8x7B-v0.1",),
        "MixtralForCausalLM",
        {**_GROUPED, **_EXPERTS, "num_local_experts": 2, "sliding_window": None},
        "llama",
        _QV_PROJ,
        True,
        EVERYTHING,
        _SCORE,
        refused=("gate_up_proj", "down_proj"),
        remark="the experts are one parameter of three dimensions each, no layers: refused as targets",
    ),
    "OLMoE": Architecture(
        ("allenai/OLMoE-1B-7B-0924",),
        "OlmoeForCausalLM",
        {**_GROUPED, **_EXPERTS, "num_experts": 4},
        "gpt_neox",
        ("q_proj", "k_proj", "v_proj", "o_proj"),
        False,
        ("generation",),
        refused=("gate_up_proj", "down_proj"),
        remark="experts as Mixtral's; transformers has no other model of it than the generator",
    ),
    "T5": Architecture(
        ("google-t5/t5-base", "google/flan-t5-base"),
        "T5ForConditionalGeneration",
        _T5,
        "t5",
        ("q", "v"),
        True,
        EVERYTHING,
        {"sequence": ("classification_head",), "tagging": ("classifier",)},
        tied=True,
        remark="generation: the input to the encoder, the output to the decoder; tagging: the encoder alone",
    ),
    "BART": Architecture(
        ("facebook/bart-base",),
        "BartForConditionalGeneration",
        _BART,
        "roberta",
        _QV_PROJ,
        True,
        (*SEQUENCES, "generation"),
        {"sequence": ("classification_head",)},
        tied=True,
        remark="generation: the input to the encoder, the output to the decoder",
    ),
}


def write_checkpoint(folder: Path, architecture: Architecture) -> Path:
    """A folder with the model and its tokenizer."""
    import torch
    import transformers

    tokenizer = trained(architecture.tokenizer)
    ids = {f"{token}_token_id": getattr(tokenizer, f"{token}_token_id") for token in ("pad", "bos", "eos")}
    # Larger than a fresh model's weights, so that what is wrong shows in the logits.
    drawn = {"initializer_range": 0.2, "init_std": 0.2, "initializer_factor": 0.5}
    kind = getattr(transformers, architecture.checkpoint)
    config = kind.config_class(**{"vocab_size": len(tokenizer), **ids, **drawn, **architecture.config})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
