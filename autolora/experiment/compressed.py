"""What a compression with data came to: `Compressed`, and what is kept of it beside the smaller adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from autolora.lora.ranks import Ranks
from autolora.metrics.base import Score

FORMAT = 1
RANKS, RECORD = "ranks.json", "compressed.json"


@dataclass(frozen=True)
class Compressed:
    """What a compression came to.

    Args:
        output: The folder of the smaller adapter.
        source: SHA-256 of the adapter's files, by name.
        recipe: The name of the recipe whose data it was measured on.
        seed: Its seed.
        ranks: By full module name, 0 where a layer keeps nothing, with the kept components, score and budget.
        parameters: Of the LoRA factors, before and after.
        examples: Training rows that were measured on.
        heal: Optimiser steps that what is kept was trained for.
        before: Scores on the evaluation splits, averaged over them; empty where they were not asked for.
        squeezed: The same of what is kept, not trained any further.
        healed: The same after the training; empty without one.
    """

    output: Path
    source: Mapping[str, str]
    recipe: str
    seed: int
    ranks: Ranks
    parameters: tuple[int, int]
    examples: int
    heal: int
    before: tuple[Score, ...]
    squeezed: tuple[Score, ...]
    healed: tuple[Score, ...]

    @property
    def after(self) -> tuple[Score, ...]:
        """The scores of what was written."""
        return self.healed or self.squeezed

    @property
    def predicted_rise(self) -> float:
        """Of the mean loss when what was dropped is dropped, by the gates' derivatives, before any healing."""
        return float(self.ranks.rule["predicted_rise"])

    @property
    def measured_rise(self) -> float | None:
        """The same measured, where the budget is a tolerance."""
        found = self.ranks.rule.get("measured_rise")
        return None if found is None else float(found)

    def record(self) -> dict[str, object]:
        """The content of `RECORD`, which says nothing of places or times: the same compression, the same bytes."""
        scores = {"before": self.before, "squeezed": self.squeezed, "healed": self.healed}
        return {
            "format": FORMAT,
            "source": dict(self.source),
            "recipe": self.recipe,
            "seed": self.seed,
            "score": self.ranks.rule["score"],
            "budget": self.ranks.rule["budget"],
            "parameters": {"before": self.parameters[0], "after": self.parameters[1]},
            "ranks": dict(self.ranks),
            "examples": self.examples,
            "heal": self.heal,
            "predicted_rise": self.predicted_rise,
            "measured_rise": self.measured_rise,
            "scores": {name: [asdict(score) for score in found] for name, found in scores.items()},
        }
