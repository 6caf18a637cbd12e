"""Exact match: ``exact_match(["  Paris "], [["Paris", "paris"]])`` gives ``{"exact_match": 1.0}``.

Both sides are stripped, and what blanks they have inside (line breaks among them) become one each; nothing else is
done to them: case, punctuation and accents count. An output is right if it is one of its references.
"""

from __future__ import annotations

from collections.abc import Sequence

from autolora.metrics.base import Metric, Output
from autolora.metrics.text import check_texts


def exact_match(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """The share of outputs that are one of their references, but for blanks."""
    right = [
        normalised(output) in map(normalised, several) for output, several in zip(predictions, references, strict=True)
    ]
    return {"exact_match": sum(right) / len(right)}


def normalised(text: str) -> str:
    """The text without blanks at its ends, and with one for several in a row.

    Args:
        text: An output, or a reference.
    """
    return " ".join(text.split())


METRIC = Metric("exact_match", exact_match, (Output("exact_match"),), check=check_texts, takes="texts")
