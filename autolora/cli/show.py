"""What the commands print when a stage has ended, on standard output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from autolora import tables
from autolora.console import line, screen
from autolora.runs.store import Run

if TYPE_CHECKING:
    from autolora.context.base import Context

FILES = {  # that a stage has written, below the run's folder
    "search": ("search/ranks.json", "search/ranks.png", "search/selection.png", "search/log.jsonl"),
    "retrain": ("adapter", "retrain/log.jsonl"),
    "eval": ("metrics.md", "metrics.csv", "metrics.json", "predictions"),
}


def show_stage(run: Run, context: Context, stage: str, result: Any) -> None:
    """The rank map or the metrics table that a stage came to, and what it has written."""
    if not context.main:
        return
    console = screen()
    if stage == "search":
        from autolora.plots import rank_map

        console.print(rank_map.render(result, result.initial_rank))
    elif stage == "eval":
        console.print(tables.render(result, f"{run.recipe.name}, seed {run.recipe.seed}", console.width))
        if context.task.positive is not None:
            line(console, f"f1 is that of the class {context.task.positive!r}; eval.positive sets another")
    written(console, *(path for name in FILES[stage] if (path := run.path / name).exists()))


def written(console: Console, *paths: Path) -> None:
    """A line for each file or folder."""
    for path in paths:
        line(console, f"wrote {path}")
