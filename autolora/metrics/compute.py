"""Scores by name: ``score(["accuracy", "f1"], predictions, references)`` gives a `Score` for each.

The names are those of `autolora.registry.METRICS`. Nothing here imports a library before a metric is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from autolora.metrics.base import Classes, Metric, NeedsJavaError, Output, Score
from autolora.registry import METRICS


def headline(name: str) -> Output:
    """What methods are compared by where this metric is the recipe's first.

    Raises:
        UserError: no metric has this name.
    """
    return _metric(name).headline


def score(
    names: Sequence[str],
    predictions: Sequence[Any],
    references: Sequence[Any],
    on_missing: Callable[[str], None] | None = None,
    classes: Classes | None = None,
) -> tuple[Score, ...]:
    """The scores of n predictions against their n references, metric by metric.

    F1 is that of the positive class where the task has two classes, and the mean over the classes (macro) otherwise.
    Where the task's classes are not known, it is that of class 1 where all labels are 0 and 1. What is
    undefined, a correlation with a constant series for instance, is None.

    Args:
        names: metrics, by the recipe's words.
        predictions: what the metrics take: n labels, numbers, texts, or lists of tags.
        references: n of the same; for texts n lists of texts.
        on_missing: is told, once, that there is no Java, or none that runs; the scores that need it are then None.
        classes: the task's.

    Raises:
        UserError: no metric has one of these names.
        ValueError: there are no examples, their numbers differ, or a metric refuses them.
        NeedsJavaError: a metric needs Java, there is none that runs, and nobody is told.
    """
    found: list[Score] = []
    said = False
    for metric in map(_metric, names):
        try:
            found += metric.scores(predictions, references, classes)
        except NeedsJavaError as error:
            if on_missing is None:
                raise
            if not said:
                on_missing(f"{error}; their columns stay empty. Install one (Debian, Ubuntu: apt install default-jre)")
            said = True
            found += [output.score(None) for output in metric.outputs]
    return tuple(found)


def _metric(name: str) -> Metric:
    return METRICS.load(name)
