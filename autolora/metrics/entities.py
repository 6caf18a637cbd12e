"""Entities: ``Entities().compute(predictions=[["B-x", "O"]], references=[["B-x", "O"]])["f1"]`` is 1.0."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import evaluate
from seqeval.metrics.sequence_labeling import accuracy_score, get_entities, precision_recall_fscore_support

from autolora.metrics.compute import InMemory


class Entities(InMemory, evaluate.Metric):
    """Precision, recall and F1 of entities (exact span and type) as conlleval counts them, malformed ones included.

    An I- tag begins an entity where none of its type goes on: first in a sentence, after O, after another type.
    "accuracy" is that of the tags, "entities" the number of entities in the references; "by_type" has the same by type.
    """

    inputs_description = "predictions and references: a list of tags (O, B-x, I-x) for each sentence."

    def _features(self) -> Any:
        from datasets import Features, List, Value

        return Features({"predictions": List(Value("string")), "references": List(Value("string"))})

    def add_batch(self, *, predictions: Any = None, references: Any = None, **others: Any) -> None:
        """Take one more batch of sentences."""
        for i, (found, true) in enumerate(zip(predictions or [], references or [], strict=False), 1):
            if len(found) != len(true):
                raise ValueError(f"sentence {i}: {len(found)} predicted tags but {len(true)} reference tags")
        super().add_batch(predictions=predictions, references=references, **others)

    def _compute(self, predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, Any]:
        found, true = [list(tags) for tags in predictions], [list(tags) for tags in references]
        types = sorted({name for tags in (*found, *true) for name, _, _ in get_entities(tags)})
        overall = self._scores(found, true, "micro")
        each: dict[str, Any] = self._scores(found, true, None) if types else {}
        by_type = {name: {key: values[i] for key, values in each.items()} for i, name in enumerate(types)}
        return {
            "precision": float(overall["precision"]),
            "recall": float(overall["recall"]),
            "f1": float(overall["f1"]),
            "accuracy": float(accuracy_score(true, found)) if any(true) else 0.0,
            "entities": int(sum(scores["entities"] for scores in by_type.values())),
            "by_type": {
                name: {key: int(v) if key == "entities" else float(v) for key, v in scores.items()}
                for name, scores in by_type.items()
            },
        }

    @staticmethod
    def _scores(found: list[list[str]], true: list[list[str]], average: str | None) -> dict[str, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are no entities
            precision, recall, f1, support = precision_recall_fscore_support(
                true, found, average=average, zero_division=0
            )
        return {"precision": precision, "recall": recall, "f1": f1, "entities": support}
