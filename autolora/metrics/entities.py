"""Entities: ``entities([["B-x", "O"]], [["B-x", "O"]])["f1"]`` is 1.0.

They are counted as conlleval counts them (the script of the CoNLL shared tasks): by exact span and type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain

from autolora.metrics.base import Metric, Output

OUTSIDE = "O"
NO_TYPE = "_"  # type of a bare B or I

Span = tuple[str, int, int]
Sentences = Sequence[Sequence[str]]  # the tags of each


def entity_spans(tags: Sequence[str]) -> list[Span]:
    """The entities of one sentence: (type, first word, last word) of each, in order.

    A B- tag begins one, and so does an I- tag where no entity of its type goes on: first in the sentence, after O,
    after another type. So malformed sequences have entities, too.

    Raises:
        ValueError: a tag is not O, B-… or I-….
    """
    spans = []
    begun: tuple[str, int] | None = None  # type and first word of the entity that goes on
    for i, tag in enumerate([*tags, OUTSIDE]):
        if tag != OUTSIDE and tag[:2] not in ("B-", "I-", "B", "I"):
            raise ValueError(f"word {i + 1}: the tag must be O, B-… or I-… (IOB2), got {tag!r}")
        name = tag[2:] or NO_TYPE
        if begun is not None and not (tag[0] == "I" and name == begun[0]):
            spans.append((*begun, i - 1))
            begun = None
        if begun is None and tag != OUTSIDE:
            begun = name, i
    return spans


def entities(predictions: Sentences, references: Sentences) -> dict[str, float]:
    """Precision, recall and F1 of entities (exact span and type), malformed ones included, and the tags' accuracy.

    A ratio is 0 where there is nothing to divide by.

    Args:
        predictions: the tags of each of n sentences: O, B-x, I-x.
        references: n sentences, as long as those.
    """
    right, found, true = _counts(predictions, references)
    pairs = [
        pair for tags, truth in zip(predictions, references, strict=True) for pair in zip(tags, truth, strict=True)
    ]
    equal = sum(tag == truth for tag, truth in pairs)
    return {**_ratios(right.total(), found.total(), true.total()), "accuracy": _ratio(equal, len(pairs))}


def entities_by_type(predictions: Sentences, references: Sentences) -> dict[str, dict[str, float]]:
    """Precision, recall and F1 of each type of entity, and how many "entities" of it the references have."""
    right, found, true = _counts(predictions, references)
    return {
        name: {**_ratios(right[name], found[name], true[name]), "entities": true[name]}
        for name in sorted({*found, *true})
    }


def entity_count(sentences: Sentences) -> int:
    """How many entities the sentences have."""
    return sum(len(entity_spans(tags)) for tags in sentences)


def check_sentences(predictions: Sentences, references: Sentences) -> None:
    """A predicted tag for every reference tag.

    Raises:
        ValueError: a sentence has more or fewer.
    """
    for i, (tags, truth) in enumerate(zip(predictions, references, strict=True), 1):
        if len(tags) != len(truth):
            raise ValueError(f"sentence {i}: {len(tags)} predicted tags but {len(truth)} reference tags")


def _counts(predictions: Sentences, references: Sentences) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Entities by type: those that are right, those found, and those in the references."""
    found, true = [[entity_spans(tags) for tags in sentences] for sentences in (predictions, references)]
    right = [set(spans) & set(truth) for spans, truth in zip(found, true, strict=True)]
    of_right, of_found, of_true = (
        Counter(name for name, _, _ in chain.from_iterable(spans)) for spans in (right, found, true)
    )
    return of_right, of_found, of_true


def _ratios(right: int, found: int, true: int) -> dict[str, float]:
    precision, recall = _ratio(right, found), _ratio(right, true)
    return {"precision": precision, "recall": recall, "f1": _ratio(2.0 * precision * recall, precision + recall)}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


METRIC = Metric(
    "entities",
    entities,
    (Output("precision"), Output("recall"), Output("f1"), Output("accuracy")),
    compared_by="f1",
    check=check_sentences,
    takes="tags",
)
