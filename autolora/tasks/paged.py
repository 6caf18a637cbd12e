"""Decoding with a paged cache, transformers' continuous batching: ``paged_outputs(model, prompts, settings, …)``.

Outputs of one batch share pages of keys and values, so there is no padding, and one that has ended makes room. As many
pages are kept as the batch can need, rather than most of the memory that is free, which is transformers' default.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from autolora.errors import RunError

PAGE = 64  # tokens
AT_ONCE = 4096  # tokens of a pass, where all prompts together have more


def paged_outputs(
    model: Any, prompts: Sequence[Sequence[int]], *, new_tokens: int, ends: Sequence[int], padding: int
) -> list[list[int]]:
    """The likeliest token after the other, for each prompt, in order.

    Args:
        model: Transformers', without a generation configuration of its own.
        prompts: Token ids, without padding.
        new_tokens: At most so many of an output.
        ends: Tokens that end it, and are its last.
        padding: The padding token.

    Raises:
        RunError: It failed for one of them.
    """
    from transformers import ContinuousBatchingConfig, GenerationConfig

    tokens = [len(prompt) + new_tokens for prompt in prompts]
    pages = sum(-(-count // PAGE) + 1 for count in tokens)
    how = ContinuousBatchingConfig(
        page_size=PAGE,
        num_blocks=pages + 1,
        max_batch_tokens=max(len(prompts), min(AT_ONCE, sum(tokens))),
        max_requests_per_batch=len(prompts),
        allow_block_sharing=False,
        auto_switch_to_flash=False,
        use_async_batching=False,
        use_cuda_graph=False,
    )
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=new_tokens, eos_token_id=list(ends), pad_token_id=padding
    )
    with _attention(model):
        found = list(
            model.generate_batch(
                [list(prompt) for prompt in prompts],
                generation_config=settings,
                continuous_batching_config=how,
                warmup=False,
            ).values()
        )
    wrong = next((each.error for each in found if each.error is not None), None)
    if wrong is not None or len(found) != len(prompts):
        raise RunError(
            f"eval.generation.cache: paged: {wrong or f'{len(prompts) - len(found)} outputs are missing'}; set it to "
            "dynamic"
        )
    return [list(each.generated_tokens) for each in found]


@contextmanager
def _attention(model: Any) -> Iterator[None]:
    """The model has its own attention again afterwards."""
    before = model.config._attn_implementation
    try:
        yield
    finally:
        model.set_attn_implementation(before)
