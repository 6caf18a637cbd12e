"""A trained adapter on disk made smaller, without data and without its model: ``autolora.compress(…)``."""

from __future__ import annotations

from pathlib import Path

from autolora.adapters.choice import Choice, Given
from autolora.adapters.stored import StoredAdapter
from autolora.adapters.write import check_output, write_adapter
from autolora.lora.ranks import Ranks

SCORE = "spectrum"


def compress(adapter: str | Path, budget: Given, output: str | Path, *, uniform: bool = False) -> Ranks:
    """Keep the largest singular components of an adapter's updates within a budget, and write a stock PEFT adapter.

    Neither the model nor data are needed, and memory stays at one layer. What else the adapter holds (modules that were
    trained in full, biases, DoRA's magnitudes, trained tokens) is carried over as it is.

    Args:
        adapter: A folder with adapter_config.json, or a run's.
        budget: A fraction of the adapter's LoRA parameters, or ``{"fraction": 0.5}``, ``{"parameters": N}``,
            ``{"rank": r}`` (as many as rank r everywhere) or ``{"keep": 0.99}``: the smallest that keeps this share of
            Σ σ², the energy of all updates. As a text, too: ``"keep=0.99"``.
        output: The folder to write, which must not be there, or hold what this has written before.
        uniform: Pad every kept module with zeros to one rank, at one scaling, for servers that take only one.

    Returns:
        The ranks by full module name, 0 where a module keeps nothing; their `rule` has the budget and the share kept.

    Raises:
        UserError: The adapter cannot be read without its model, the budget keeps nothing, or the output is in the way.
    """
    stored = StoredAdapter.open(adapter)
    check_output(stored, Path(output))
    reading = Choice.of(stored).within(budget)
    return write_adapter(
        stored,
        reading.kept,
        Path(output),
        uniform=uniform,
        rule={"score": SCORE, "budget": dict(reading.budget), "share": reading.share},
    )
