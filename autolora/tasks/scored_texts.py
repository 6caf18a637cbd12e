"""Metrics of generated texts, of their references' tokens, or of both: ``scores(metrics, predictions, examples)``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autolora.console import warn
from autolora.metrics.base import Score
from autolora.metrics.compute import score
from autolora.metrics.text import one_meteor
from autolora.registry import METRICS
from autolora.tasks.base import WHOLE
from autolora.tasks.scored import Scored

if TYPE_CHECKING:
    from autolora.training.batches import Example


def scores(
    metrics: Sequence[str], predictions: Sequence[Mapping[str, Any]], examples: Sequence[Example]
) -> tuple[tuple[Score, ...], dict[str, int]]:
    """The scores in the metrics' order, and what was counted beside.

    Args:
        metrics: By the recipe's words.
        predictions: Records with "prediction", with "log_likelihood", "hits" and "tokens", or with all of them.
        examples: With "references", in the same order.
    """
    found: dict[str, tuple[Score, ...]] = {}
    counts: dict[str, int] = {}
    of_tokens = [name for name in metrics if METRICS.load(name).takes == "tokens"]
    if len(of_tokens) < len(metrics):
        outputs = [record["prediction"] for record in predictions]
        references = [example["references"] for example in examples]
        found |= _by_name([name for name in metrics if name not in of_tokens], outputs, references)
        counts["empty outputs"] = sum(not output.strip() for output in outputs)
    if of_tokens:
        told = [(record["log_likelihood"], record["hits"]) for record in predictions]
        found |= _by_name(of_tokens, told, [record["tokens"] for record in predictions])
    return tuple(each for name in metrics for each in found[name]), counts


def scored_by_category(
    metrics: Sequence[str], predictions: Sequence[Mapping[str, Any]], examples: Sequence[Example], seen: Collection[Any]
) -> list[Scored]:
    """The scores of the categories seen in training, of those unseen, and of all; a part without examples is left out.

    Args:
        metrics: See `scores`.
        predictions: See `scores`.
        examples: See `scores`; with "category".
        seen: The training split's categories.
    """
    everything = range(len(examples))
    parts: dict[str, Sequence[int]] = {
        "seen": [i for i in everything if examples[i]["category"] in seen],
        "unseen": [i for i in everything if examples[i]["category"] not in seen],
        WHOLE: everything,
    }
    parted = []
    with one_meteor():
        for name, part in parts.items():
            if part:
                found, counts = scores(metrics, [predictions[i] for i in part], [examples[i] for i in part])
                parted.append(Scored(found, {"categories": name, "examples": len(part)}, counts, whole=name == WHOLE))
    return parted


def _by_name(names: Sequence[str], predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, Any]:
    """The scores of metrics that take the same, by the metric's name."""
    given = iter(score(names, predictions, references, on_missing=warn))
    return {name: tuple(next(given) for _ in METRICS.load(name).outputs) for name in names}
