"""Encoders of the table of architectures."""

from __future__ import annotations

from collections.abc import Mapping

from tests.model.architecture import HIDDEN, SIZE, UNDERSTANDS, Architecture

_DEBERTA = {"relative_attention": True, "position_biased_input": False, "type_vocab_size": 0}
_DEBERTA |= {"pos_att_type": ["p2c", "c2p"], "position_buckets": 16, "share_att_key": True}
_DEBERTA |= {"norm_rel_ebd": "layer_norm", "max_relative_positions": -1, "pooler_hidden_size": HIDDEN}

_CLASSIFIER = {"sequence": ("classifier",), "tagging": ("classifier",)}
_QUERY_VALUE = ("query", "value")

ENCODERS: Mapping[str, Architecture] = {
    "BERT": Architecture(
        ("google-bert/bert-base-uncased",),
        "BertForPreTraining",
        SIZE,
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
        {**SIZE, "type_vocab_size": 1},
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
        {**SIZE, "embedding_size": 12},
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
        {**SIZE, "embedding_size": 12, "num_hidden_groups": 1},
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
        {**SIZE, **_DEBERTA, "conv_kernel_size": 3, "conv_act": "gelu"},
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
        {**SIZE, **_DEBERTA},
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
        {**SIZE, "global_attn_every_n_layers": 2, "local_attention": 8},
        "modernbert",
        ("Wqkv", "Wo", "Wi"),
        False,
        UNDERSTANDS,
        {"sequence": ("head", "classifier"), "tagging": ("head", "classifier")},
        remark="queries, keys and values are one layer, `Wqkv`: they have one rank",
    ),
    "MPNet": Architecture(
        ("microsoft/mpnet-base",),
        "MPNetForMaskedLM",
        SIZE,
        "mpnet",
        ("q", "k", "v", "o", "dense"),
        False,
        UNDERSTANDS,
        _CLASSIFIER,
    ),
    "XLM-R": Architecture(
        ("FacebookAI/xlm-roberta-base",),
        "XLMRobertaForMaskedLM",
        {**SIZE, "type_vocab_size": 1},
        "xlm-roberta",
        _QUERY_VALUE,
        True,
        UNDERSTANDS,
        _CLASSIFIER,
    ),
}
