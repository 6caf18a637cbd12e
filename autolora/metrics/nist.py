"""NIST: ``nist(["a cat"], [["a cat", "the cat"]])`` gives ``{"nist": …}``, as mteval-v13a counts it.

NLTK's differs: it takes the information weights from other counts, and the length of the closest reference.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from autolora.metrics.base import Metric, Output
from autolora.metrics.text import check_texts

ORDER = 5
BETA = -math.log(0.5) / math.log(1.5) ** 2  # the length penalty is 0.5 at two thirds of the references' length

Ngram = tuple[str, ...]


def nist(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Information-weighted n-gram precision (n to 5) of lower-cased 13a tokens, less a penalty for brevity."""
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    tokenize = Tokenizer13a()
    outputs = [tokenize(text.lower()).split() for text in predictions]
    truths = [[tokenize(text.lower()).split() for text in texts] for texts in references]
    return {"nist": nist_of_tokens(outputs, truths)}


def nist_of_tokens(outputs: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> float:
    """NIST of tokenised outputs.

    Σ_n [Σ information of matched n-grams / number of the outputs' n-grams], times exp(-β ln²(min(1, length ratio))).
    The length compared with is that of all references over the mean number of references.
    """
    counts = Counter(ngram for texts in references for tokens in texts for ngram in _ngrams(tokens))
    words = sum(len(tokens) for texts in references for tokens in texts)
    gained, possible = [0.0] * ORDER, [0] * ORDER
    for output, texts in zip(outputs, references, strict=True):
        found, allowed = Counter(_ngrams(output)), Counter[Ngram]()
        for tokens in texts:
            allowed |= Counter(_ngrams(tokens))  # the largest count in any one reference
        for ngram, count in found.items():
            possible[len(ngram) - 1] += count
            if matched := min(count, allowed[ngram]):
                # What is new about the n-gram's last word after the words before it.
                before = counts[ngram[:-1]] if len(ngram) > 1 else words
                gained[len(ngram) - 1] += matched * math.log2(before / counts[ngram])
    length = sum(map(len, outputs))
    expected = words * len(references) / sum(map(len, references))
    if not length:
        return 0.0
    penalty = math.exp(-BETA * math.log(min(1.0, length / expected)) ** 2)
    return penalty * sum(gain / total for gain, total in zip(gained, possible, strict=True) if total)


def _ngrams(tokens: Sequence[str]) -> Iterator[Ngram]:
    for n in range(1, ORDER + 1):
        for start in range(len(tokens) - n + 1):
            yield tuple(tokens[start : start + n])


METRIC = Metric("nist", nist, (Output("nist", high=None),), check=check_texts, takes="texts")
