"""Entity scores against counts worked out by hand, as conlleval counts them."""

from __future__ import annotations

import evaluate
import pytest

from autolora.metrics.entities import Entities


def scores(predictions: list[str], references: list[str]) -> dict[str, float]:
    """Of sentences written as tags with blanks between."""
    found, true = ([text.split() for text in side] for side in (predictions, references))
    result: dict[str, float] = Entities().compute(predictions=found, references=true)
    return result


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


def test_evaluate_combines_it_and_batches_add_up() -> None:
    both = evaluate.combine([Entities()])
    for predicted, true in (("B-x O", "B-x O"), ("O O", "B-x O")):
        both.add_batch(predictions=[predicted.split()], references=[true.split()])
    assert both.compute()["recall"] == 0.5
