"""The base of a planted truth as transformers loads a model: ``with planted_folder("planted:mixed@3") as folder: …``.

Nothing is shipped and nothing is kept: the weights are drawn anew at every load, and lie on disk, in a folder of this
process's own, only while they are loaded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from autolora.planted.kinds import Size, kind_and_seed
from autolora.planted.truth import plant

PAD, UNKNOWN = "[PAD]", "[UNK]"


@contextmanager
def planted_folder(name: str) -> Iterator[str]:
    """A folder with the base and its tokenizer, which is gone afterwards.

    Args:
        name: ``planted:mixed@3``.

    Raises:
        UserError: It is no such name.
    """
    kind, seed = kind_and_seed(name)
    truth = plant(kind, seed)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        truth.base.save_pretrained(folder)
        word_tokenizer(truth.size).save_pretrained(folder)
        yield folder


def words_of(size: Size) -> list[str]:
    """The words by token id: w1, w2, …; token 0 is the padding.

    Args:
        size: Of the transformer.
    """
    return [PAD, *(f"w{token}" for token in range(1, size.vocabulary))]


def word_tokenizer(size: Size) -> PreTrainedTokenizerFast:
    """A word a token, nothing around them. Another word is a token that the base has no embedding for.

    Args:
        size: Of the transformer.
    """
    vocabulary = {word: token for token, word in enumerate([*words_of(size), UNKNOWN])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token=PAD,
        unk_token=UNKNOWN,
        model_max_length=size.length,
        model_input_names=["input_ids", "attention_mask"],
    )
