"""Cells of comparisons that tests make up."""

from __future__ import annotations

from typing import Any

from autolora.metrics.base import Score
from autolora.runs.results import Result


def cell(recipe: str, method: str, seed: int, score: float | None, **more: Any) -> Result:
    """A run that succeeded, or one that failed where `score` is None."""
    state = "success" if score is not None else "failed"
    return Result(recipe, method, seed, **{"state": state, "metric": "accuracy", "score": score, **more})


def cells(scores: dict[tuple[str, str], list[float | None]], **more: Any) -> list[Result]:
    """Cells of tasks and methods by seed, 0 and up."""
    return [cell(*key, seed, score, **more) for key, found in scores.items() for seed, score in enumerate(found)]


def score(name: str, value: float | None, *, higher_is_better: bool = True) -> Score:
    """A score between 0 and 1."""
    return Score(name, value, higher_is_better, low=0.0, high=1.0)


TWO = cells(
    {
        ("glue-mini/rte", "lora:4"): [0.50, 0.60, 0.70],
        ("glue-mini/rte", "autolora"): [0.52, 0.64, 0.70],
        ("glue-mini/mrpc", "lora:4"): [0.80, None, 0.90],
        ("glue-mini/mrpc", "autolora"): [0.70, 0.80, 0.85],
    }
)
