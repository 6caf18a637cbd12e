"""The scores of metrics by column, for tests that need no more of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from autolora.metrics.compute import score


def compute(
    names: Sequence[str],
    predictions: Sequence[Any],
    references: Sequence[Any],
    on_missing: Callable[[str], None] | None = None,
) -> dict[str, float | None]:
    """The values of `score` by column."""
    return {each.name: each.value for each in score(names, predictions, references, on_missing)}
