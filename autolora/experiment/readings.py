"""What is read off a finished search: `OtherRanks`, of several `Reading`s."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autolora.lora.ranks import Ranks


@dataclass(frozen=True)
class Reading:
    """Ranks for one budget.

    Args:
        budget: As in a recipe: ``{"fraction": 0.25}``; None where the ranks are not of a budget.
        ranks: With the kept components.
        predicted_rise: Of the mean loss, by the derivatives to the components' gates; None where there are none.
        measured_rise: Likewise; None where it was not measured.
    """

    budget: Mapping[str, float] | None
    ranks: Ranks
    predicted_rise: float | None
    measured_rise: float | None

    def to_json(self, full: int) -> dict[str, object]:
        """All of it, and what the tables have.

        Args:
            full: Parameters that shares are of.
        """
        return {
            "budget": self.budget,
            "parameters": self.ranks.parameters,
            "share": self.ranks.parameters / full,
            "sum_of_ranks": self.ranks.total,
            "layers": len(self.ranks.targets),
            "predicted_rise": self.predicted_rise,
            "measured_rise": self.measured_rise,
            "ranks": dict(self.ranks),
            "kept": dict(self.ranks.kept),
        }


@dataclass(frozen=True)
class OtherRanks:
    """What was read off a search.

    Args:
        run: The run's folder.
        score: What the components were chosen by; the run's own may be chosen by another.
        full: Parameters of LoRA at `search.rank` everywhere, which fractions are of.
        own: What the run itself has found.
        asked: For the budgets that were asked for, in their order.
        row: For a row of fractions of the parameters, as far as they buy a component.
        predicted: The curve between them: (parameters, rise of the loss); empty where none can be predicted.
        gain: What the whole LoRA is worth: the measured rise without it; None where it was not measured, or is none.
        loss: The measured loss with all of it.
        examples: How many training examples were measured on; None: none.
        remarks: What there is to say about it, a sentence each.
    """

    run: Path
    score: str
    full: int
    own: Reading
    asked: tuple[Reading, ...]
    row: tuple[Reading, ...]
    predicted: tuple[tuple[int, float], ...]
    gain: float | None
    loss: float | None
    examples: int | None
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """All of it but the line of the figure."""
        return {
            "run": str(self.run),
            "score": self.score,
            "initial_rank": self.own.ranks.initial_rank,
            "parameters": self.full,
            "all_layers": len(self.own.ranks),
            "loss": self.loss,
            "gain": self.gain,
            "measured_on": self.examples,
            "own": self.own.to_json(self.full),
            "asked": [each.to_json(self.full) for each in self.asked],
            "row": [each.to_json(self.full) for each in self.row],
            "remarks": list(self.remarks),
        }
