"""Where an output ends: at tokens, and at texts that the recipe names.

What ends an output is what a model was trained to end it with. For pairs of input and output that is the tokenizer's
end-of-sequence token alone, whatever a ``generation_config.json`` says. A conversation's turn ends as its template ends
it (``<|im_end|>``, ``<|eot_id|>``, ``<end_of_turn>``), which need not be that token, and at what the model's own list
of end tokens has: `own_ends`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


def separator_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the token between an input and its output: the beginning of a text, or its end where there is none.

    Args:
        tokenizer: The model's, which has an end.
    """
    found: int = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    return found


def end_tokens(tokenizer: PreTrainedTokenizerBase, stop: Sequence[str], more: Sequence[int] = ()) -> list[int]:
    """The ids of the tokens that end an output: the tokenizer's, those of `more`, and special tokens in `stop`.

    Args:
        tokenizer: The model's.
        stop: The recipe's texts.
        more: Of the task family.
    """
    named = [tokenizer.convert_tokens_to_ids(text) for text in stop if text in _special(tokenizer)]
    found = [tokenizer.eos_token_id, *more, *named]
    return list(dict.fromkeys(token for token in found if token is not None))


def stop_texts(tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]) -> list[str]:
    """Those of the recipe's texts that are no special token, which are looked for in what is said.

    Args:
        tokenizer: The model's.
        stop: The recipe's texts.
    """
    return [text for text in stop if text not in _special(tokenizer)]


def cut(text: str, stop: Sequence[str]) -> str:
    """A text up to the first place where one of the others stands.

    Args:
        text: What was said.
        stop: What ends it.
    """
    return text[: min((at for each in stop if (at := text.find(each)) >= 0), default=len(text))]


def own_ends(model: Any) -> list[int]:
    """The tokens that end an output by the model's own list, in its folder's ``generation_config.json``.

    Args:
        model: Transformers', or PEFT's around it.
    """
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return [token for token in (own if isinstance(own, list) else [own]) if token is not None]


def _special(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """The texts of tokens that are left out of what was said."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return {*tokenizer.all_special_tokens, *added}


class StopAt:
    """A criterion of transformers' `generate`: ends the rows in whose output one of the texts stands.

    What was given to the model does not count.

    Args:
        texts: What ends an output.
        tokenizer: The model's.
        begin: The position where outputs begin.
    """

    def __init__(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, begin: int) -> None:
        self.texts, self.tokenizer, self.begin = texts, tokenizer, begin

    def __call__(self, input_ids: Tensor, scores: Any, **options: Any) -> Tensor:
        """Whether each row has ended, booleans of shape (rows,)."""
        import torch

        said = self.tokenizer.batch_decode(input_ids[:, self.begin :], skip_special_tokens=True)
        ended = [any(text in each for text in self.texts) for each in said]
        return torch.tensor(ended, device=input_ids.device)
