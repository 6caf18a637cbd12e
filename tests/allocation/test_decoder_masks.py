"""Which positions of an encoder-decoder's prediction count where the batch has no labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
    T5ForTokenClassification,
)

import autolora
from tests.allocation.models import with_lora

SMALL: dict[str, Any] = {
    "vocab_size": 40,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 1,
    "num_heads": 2,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.0,
}
IDS = torch.randint(3, 40, (8, 6), generator=torch.Generator().manual_seed(1))


def t5() -> Any:
    torch.manual_seed(0)
    return with_lora(T5ForConditionalGeneration(T5Config(**SMALL)), ["q", "v", "wi"])


def padded(ids: Tensor, count: int) -> tuple[Tensor, Tensor]:
    pad = torch.zeros(len(ids), count, dtype=torch.long)
    return torch.cat([ids, pad], 1), torch.cat([torch.ones_like(ids), pad], 1)


def decoded(count: int, embedded: bool) -> dict[str, Tensor]:
    ids, mask = padded(IDS[:, 1:], count)
    given = {"decoder_input_ids": ids}
    if embedded:
        table = torch.randn(40, 16, generator=torch.Generator().manual_seed(2))
        given = {"decoder_inputs_embeds": table[ids]}
    # The encoder has as many positions as the decoder: its mask would fit, too.
    encoder, seen = padded(IDS[:, 2:], count + 1)
    return {"input_ids": encoder, "attention_mask": seen, **given, "decoder_attention_mask": mask}


@pytest.mark.parametrize("embedded", [False, True], ids=["ids", "embeddings"])
def test_padding_of_the_decoder_counts_for_nothing(embedded: bool) -> None:
    found = []
    for count in (0, 12):
        ranks = autolora.squeeze(t5(), [decoded(count, embedded)], 0.4)
        found.append((dict(ranks), ranks.rule["predicted_rise"]))
    assert found[0][0] == found[1][0]
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)


@pytest.mark.parametrize("kind", ["bart", "tagging"])
def test_without_inputs_of_the_decoder_the_encoders_mask_says_it(kind: str) -> None:
    """BART's decoder takes the encoder's tokens then, and a tagger of T5's has none."""

    def made() -> Any:
        torch.manual_seed(0)
        if kind == "tagging":
            return with_lora(T5ForTokenClassification(T5Config(**SMALL, num_labels=4)), ["q", "v"])
        sizes = {f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in SIZES.items()}
        config = BartConfig(vocab_size=40, d_model=16, **sizes, pad_token_id=0, init_std=0.2)
        return with_lora(BartForConditionalGeneration(config), ["q_proj", "v_proj"])

    found = []
    for count in (1, 9):
        ids, mask = padded(IDS, count)
        ranks = autolora.squeeze(made(), [{"input_ids": ids, "attention_mask": mask}], 0.4)
        found.append((dict(ranks), ranks.rule["predicted_rise"]))
    assert found[0][0] == found[1][0]
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)


SIZES = {"layers": 1, "attention_heads": 2, "ffn_dim": 24}
