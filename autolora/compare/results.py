"""What one cell of a comparison came to: ``read_result(run_directory)``, from the files of its run alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autolora.files import read_json
from autolora.recipe.method import label
from autolora.runs.store import Run, ranks_file


@dataclass(frozen=True)
class Result:
    """One run: a recipe (task), a method and a seed.

    recipe: the recipe's name, ``glue-mini/cola``. method: its label, ``autolora``, ``lora:4``, ``lora-matched``.
    state: success, failed, cancelled, running, or missing (never begun). reason: why it failed, one line.
    metric, score: the metric that methods are compared by, and its value (higher is better); None unless it succeeded.
    scores: all metrics of the recipe by name, from the row that `score` is from.
    rows: the rows of the run's metrics table.
    adapter_parameters: trained parameters beside the head. trainable_parameters: with the head.
    ranks: final rank of every adapted module by full name; None for methods without ranks.
    search_seconds: what finding ranks took (0 where nothing is searched); retrain_seconds: what training took.
    peak_memory_mib: of the process, or of the device on a GPU. Passes count batches, search and retraining together.
    manifest: the run's manifest.json as it is.
    """

    recipe: str
    method: str
    seed: int
    state: str
    run: Path | None = None
    reason: str | None = None
    metric: str | None = None
    score: float | None = None
    scores: Mapping[str, float | None] = field(default_factory=dict)
    rows: tuple[Mapping[str, Any], ...] = ()
    adapter_parameters: int | None = None
    trainable_parameters: int | None = None
    initial_rank: int | None = None
    ranks: Mapping[str, int] | None = None
    search_seconds: float | None = None
    retrain_seconds: float | None = None
    peak_memory_mib: float | None = None
    forward_passes: int | None = None
    backward_passes: int | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def total_rank(self) -> int | None:
        """Sum of the ranks."""
        return None if self.ranks is None else sum(self.ranks.values())

    @property
    def total_seconds(self) -> float | None:
        """Search and retraining."""
        if self.search_seconds is None or self.retrain_seconds is None:
            return None
        return self.search_seconds + self.retrain_seconds


def read_result(run: Run) -> Result:
    """The result of a run, finished or not. Raises UserError for a damaged file."""
    status, manifest = run.status(), run.manifest()
    stages = manifest.get("stages", {})
    searched, retrained, evaluated = (stages.get(name, {}) for name in ("search", "retrain", "eval"))
    done = status["stages"].get("eval", {}).get("state") == "success"
    base = Result(
        recipe=run.recipe.name,
        method=label(run.recipe.method),
        seed=run.recipe.seed,
        state="success" if done else status["state"],
        run=run.path,
        reason=None if done else _reason(status) or ("another process is at it" if run.live_process() else None),
        manifest=manifest,
    )
    if not done:
        return base
    rows = read_json(run.path / "metrics.json")
    found = read_json(ranks_file(run.path)) if ranks_file(run.path).exists() else {}
    trained, head = retrained["trainable_parameters"], retrained["head_parameters"]
    both = (searched, retrained)
    return replace(
        base,
        metric=evaluated["metric"],
        score=evaluated["score"],
        scores=_scores(rows[0], evaluated["metric"]),
        rows=tuple(rows),
        adapter_parameters=trained - head,
        trainable_parameters=trained,
        initial_rank=found.get("initial_rank"),
        ranks=found.get("ranks"),
        search_seconds=searched.get("seconds", 0.0),
        retrain_seconds=retrained["seconds"],
        peak_memory_mib=max(_memory(stage) for stage in both),
        forward_passes=sum(stage.get("forward_passes", 0) for stage in both),
        backward_passes=sum(stage.get("backward_passes", 0) for stage in both),
    )


def _reason(status: Mapping[str, Any]) -> str | None:
    """The first line of what went wrong."""
    errors = [status.get("error"), *(stage.get("error") for stage in status["stages"].values())]
    said = [" ".join(str(error).split()) for error in errors if error]
    return said[0] if said else None


def _scores(row: Mapping[str, Any], metric: str) -> dict[str, float]:
    """The numbers of a row of the metrics table from the main metric on; counts and sizes are none."""
    names = list(row)
    return {name: row[name] for name in names[names.index(metric) :] if isinstance(row[name], float)}


def _memory(stage: Mapping[str, Any]) -> float:
    peak = stage.get("peak_memory_mib", {})
    return float(peak.get("device", peak.get("process", 0.0)))
