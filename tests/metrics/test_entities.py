"""Entity scores against counts worked out by hand, as conlleval counts them."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest

from autolora.metrics.entities import Span, entities, entities_by_type, entity_count, entity_spans
from tests.metrics.values import compute

TAGS = ["O", "O", "O", "B-x", "I-x", "B-y", "I-y", "B-a-b", "I-a-b", "I-z", "B", "I", "B-", "I-"]


def scores(predictions: list[str], references: list[str]) -> dict[str, Any]:
    """Of sentences written as tags with blanks between."""
    found, true = ([text.split() for text in side] for side in (predictions, references))
    return {
        **compute(["entities"], found, true),
        "entities": entity_count(true),
        "by_type": entities_by_type(found, true),
    }


def counts(precision: tuple[int, int], recall: tuple[int, int]) -> dict[str, float]:
    p, r = precision[0] / max(precision[1], 1), recall[0] / max(recall[1], 1)
    return {"precision": p, "recall": r, "f1": 2 * p * r / (p + r) if p + r else 0.0}


@pytest.mark.parametrize(
    ("predicted", "true", "precision", "recall"),
    [
        # (right, found) and (right, there)
        ("B-x I-x O B-y", "B-x I-x O B-y", (2, 2), (2, 2)),
        ("B-x O O B-y", "B-x I-x O B-y", (1, 2), (1, 2)),  # the span is too short
        ("B-y I-y O B-y", "B-x I-x O B-y", (1, 2), (1, 2)),  # the type is wrong
        ("O I-x I-x O", "O B-x I-x O", (1, 1), (1, 1)),  # I- after O begins an entity
        ("I-x I-x O O", "B-x I-x O O", (1, 1), (1, 1)),  # and so does I- first in a sentence
        ("B-x I-y O O", "B-x B-y O O", (2, 2), (2, 2)),  # another type inside ends one and begins one
        ("B-x I-y I-x O", "B-x I-x I-x O", (0, 3), (0, 1)),  # three of one word, for one of three
        ("B-x B-x I-x O", "B-x I-x I-x O", (0, 2), (0, 1)),  # B- always begins an entity
        ("I-x B-x O I-x", "B-x B-x O B-x", (3, 3), (3, 3)),
        ("O O I-x", "O O B-x", (1, 1), (1, 1)),  # an entity may end with the sentence
        ("O O O", "B-x I-x O", (0, 0), (0, 1)),
        ("B-x O O", "O O O", (0, 1), (0, 0)),
        ("O O", "O O", (0, 0), (0, 0)),
        ("B-a-b I-a-b", "B-a-b I-a-b", (1, 1), (1, 1)),  # a type may have a hyphen
    ],
)
def test_entities_are_counted_as_conlleval_does(
    predicted: str, true: str, precision: tuple[int, int], recall: tuple[int, int]
) -> None:
    found = scores([predicted], [true])
    assert {key: found[key] for key in ("precision", "recall", "f1")} == pytest.approx(counts(precision, recall))
    assert found["entities"] == recall[1]


def test_an_entity_never_goes_over_the_end_of_a_sentence() -> None:
    found = scores(["O B-x", "I-x O"], ["O B-x", "B-x O"])
    assert found["f1"] == 1.0


def test_types_and_tags_are_counted_apart() -> None:
    found = scores(["B-x I-x O B-y O", "B-y O O"], ["B-x I-x O B-x O", "B-y O B-z"])
    # x: 1 of 1 right, 1 of 2 found; y: 1 of 2 right, 1 of 1 found; z: none found of 1. Tags: 6 of 8.
    assert found["by_type"] == {
        "x": {**counts((1, 1), (1, 2)), "entities": 2},
        "y": {**counts((1, 2), (1, 1)), "entities": 1},
        "z": {**counts((0, 0), (0, 1)), "entities": 1},
    }
    assert {key: found[key] for key in ("precision", "recall")} == pytest.approx({"precision": 2 / 3, "recall": 2 / 4})
    assert found["accuracy"] == pytest.approx(6 / 8)


def test_sentences_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="sentence 2: 1 predicted tags but 2 reference tags"):
        scores(["O", "O"], ["O", "O O"])


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("", []),
        ("O O", []),
        ("B-x I-x O B-y", [("x", 0, 1), ("y", 3, 3)]),
        ("I-x I-x O I-x", [("x", 0, 1), ("x", 3, 3)]),
        ("B-x B-x I-x", [("x", 0, 0), ("x", 1, 2)]),
        ("B-x I-y I-y I-x", [("x", 0, 0), ("y", 1, 2), ("x", 3, 3)]),
        ("O B-a-b I-a-b I-a", [("a-b", 1, 2), ("a", 3, 3)]),
        ("B I B-_ O I", [("_", 0, 1), ("_", 2, 2), ("_", 4, 4)]),
    ],
)
def test_spans_by_hand(tags: str, spans: list[Span]) -> None:
    assert entity_spans(tags.split()) == spans


@pytest.mark.parametrize("tag", ["S-x", "E-x", "x", "ORG", "Bx", "", "o", "b-x"])
def test_a_tag_of_another_scheme_is_refused_not_guessed_at(tag: str) -> None:
    with pytest.raises(ValueError, match=f"word 2: the tag must be O, B-… or I-… \\(IOB2\\), got {tag!r}"):
        entity_spans(["O", tag])


def test_sentences_without_words_have_no_accuracy_and_no_entities() -> None:
    assert entities([[]], [[]]) == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "accuracy": 0.0}
    assert entities_by_type([[]], [[]]) == {}


def of_seqeval(found: list[list[str]], true: list[list[str]]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Scores of all entities, and by type, as seqeval counts in its default mode, which is conlleval's."""
    from seqeval.metrics.sequence_labeling import accuracy_score, get_entities, precision_recall_fscore_support

    def ratios(average: str | None) -> dict[str, Any]:
        names = ("precision", "recall", "f1", "entities")
        values = precision_recall_fscore_support(true, found, average=average, zero_division=0)
        return dict(zip(names, values, strict=True))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a bare B or I, no entities
        types = sorted({name for tags in (*found, *true) for name, _, _ in get_entities(tags)})
        whole, each = ratios("micro"), ratios(None) if types else {}
        del whole["entities"]
        whole["accuracy"] = accuracy_score(true, found)
    return whole, {name: {key: values[i] for key, values in each.items()} for i, name in enumerate(types)}


def test_chance_sequences_are_counted_as_seqeval_does_to_the_last_bit() -> None:
    sequence_labeling = pytest.importorskip("seqeval.metrics.sequence_labeling")
    chance = random.Random(5)
    for _ in range(400):
        tags = TAGS[: chance.choice([5, 7, 10, 14])]
        true = [chance.choices(tags, k=chance.randrange(1, 12)) for _ in range(chance.randrange(1, 12))]
        found = [[tag if chance.random() < 0.6 else chance.choice(tags) for tag in sentence] for sentence in true]
        whole, by_type = of_seqeval(found, true)
        assert entities(found, true) == whole
        assert entities_by_type(found, true) == by_type
        assert entity_count(true) == sum(each["entities"] for each in by_type.values())
        for sentence in true:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert entity_spans(sentence) == sequence_labeling.get_entities(sentence)
