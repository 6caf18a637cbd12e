"""What a model is called with where several examples share a row: ``model(**packed_inputs(ids, positions))``.

There is neither a mask nor a cache: without them transformers lets a position see those of its own example alone, told
by positions that begin anew, with a block-diagonal mask (eager, sdpa, flex). FlashAttention takes no mask; it gets the
examples' lengths, which others leave alone.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def packed_inputs(ids: Tensor, positions: Tensor) -> dict[str, Any]:
    """The keywords of a forward pass.

    Args:
        ids: Tokens, (rows, positions).
        positions: Likewise, from 0 on in every example; whatever pads a row counts on from its last example.
    """
    lengths = varying_lengths(positions) if ids.is_cuda else {}  # CPUs have no FlashAttention
    return {"input_ids": ids, "position_ids": positions, "use_cache": False, **lengths}


def varying_lengths(positions: Tensor) -> dict[str, Any]:
    """Where the examples begin in the rows one after the other, and the longest of them, as FlashAttention has it.

    Args:
        positions: As `packed_inputs` takes them.
    """
    from transformers.modeling_flash_attention_utils import prepare_fa_kwargs_from_position_ids

    (begins, _), (longest, _) = prepare_fa_kwargs_from_position_ids(positions)
    return {"cu_seq_lens_q": begins, "cu_seq_lens_k": begins, "max_length_q": longest, "max_length_k": longest}
