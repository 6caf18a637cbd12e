"""What a run came to: ``read_result(run)``, from its files alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autolora.errors import UserError
from autolora.files import read_json, read_records
from autolora.lora.ranks import Ranks
from autolora.metrics.base import Score
from autolora.recipe.method import label
from autolora.registry import METRICS
from autolora.runs.folders import ranks_file
from autolora.runs.inventory import WHOLE, check_there, verified
from autolora.runs.predictions import prediction_files
from autolora.runs.shapes import check_measured, check_metrics
from autolora.runs.status import STAGES, counting
from autolora.runs.store import Run


@dataclass(frozen=True)
class Result:
    """One run: a recipe (task), a method and a seed.

    Args:
        recipe: The recipe's name, ``glue-mini/cola``.
        method: Its label, ``autolora``, ``lora:4``, ``lora-matched``.
        seed: The recipe's.
        state: success, failed, cancelled, running, partial (a stage is left), or missing (never begun).
        run: The run's folder.
        reason: Why it failed, or what is left, in one line.
        metric: The metric that methods are compared by; None unless it succeeded.
        score: Its value, which may be None where it is not finite.
        higher_is_better: Of that metric.
        scores: All metrics of the recipe over whole evaluation splits, averaged over them.
        rows: The rows of the run's metrics table.
        adapter_parameters: Trained parameters beside the head.
        trainable_parameters: Those with the head.
        ranks: Final rank of every adapted module; None for methods without ranks.
        search_seconds: What finding ranks took; 0 where nothing is searched.
        retrain_seconds: What training took.
        peak_memory_mib: Of the process, or of the device on a GPU.
        forward_passes: Over batches, in search and retraining together.
        backward_passes: Likewise.
        manifest: The run's manifest.json as it is.
    """

    recipe: str
    method: str
    seed: int
    state: str
    run: Path | None = None
    reason: str | None = None
    metric: str | None = None
    score: float | None = None
    higher_is_better: bool = True
    scores: tuple[Score, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()
    adapter_parameters: int | None = None
    trainable_parameters: int | None = None
    ranks: Ranks | None = None
    search_seconds: float | None = None
    retrain_seconds: float | None = None
    peak_memory_mib: float | None = None
    forward_passes: int | None = None
    backward_passes: int | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def total_rank(self) -> int | None:
        """Sum of the ranks."""
        return None if self.ranks is None else self.ranks.total

    @property
    def initial_rank(self) -> int | None:
        """What the ranks are out of."""
        return None if self.ranks is None else self.ranks.initial_rank

    @property
    def adapter(self) -> Path | None:
        """Where the trained adapter is; None unless the run succeeded."""
        return self.run / "adapter" if self.run is not None and self.state == "success" else None

    def predictions(self, split: str) -> list[dict[str, Any]]:
        """The records of an evaluation split, in its order.

        Args:
            split: As the recipe names it.

        Returns:
            For each example its index, reference, prediction and what belongs to them.

        Raises:
            UserError: There is no such file, or it is damaged.
        """
        if self.run is None:
            raise UserError("this result is of no run on this disk, so it has no predictions")
        splits = dict.fromkeys(str(row["split"]) for row in self.rows)
        if split not in splits:
            raise UserError(f"{self.run} has no predictions of a split {split!r}; it has: {', '.join(splits)}")
        path = prediction_files(self.run, list(splits))[split]
        return read_records(verified(self.run, path.relative_to(self.run).as_posix()))

    @property
    def total_seconds(self) -> float | None:
        """Search and retraining."""
        if self.search_seconds is None or self.retrain_seconds is None:
            return None
        return self.search_seconds + self.retrain_seconds


def read_result(run: Run) -> Result:
    """The result of a run, finished or not.

    Args:
        run: Whose status, manifest, ranks and metrics are read.

    Raises:
        UserError: A file is damaged.
    """
    status, manifest = run.status(), run.manifest()
    stages = manifest.get("stages", {})
    searched, retrained, evaluated = (stages.get(name, {}) for name in ("search", "retrain", "eval"))
    done = counting(status["stages"]).get("eval", {}).get("state") == "success"
    base = Result(
        recipe=run.recipe.name,
        method=label(run.recipe.method),
        seed=run.recipe.seed,
        state="success" if done else _state(status),
        run=run.path,
        reason=None if done else reason(status) or _at_it(run) or _left(status),
        manifest=manifest,
    )
    if not done:
        return base
    check_there(run.path, WHOLE, *STAGES)
    rows = read_json(run.verified("metrics.json"))
    check_measured(run.path / "manifest.json", stages)
    check_metrics(run.path / "metrics.json", rows)
    scores = _scores(evaluated, rows[0], run.recipe.eval.metrics)
    trained, head = retrained["trainable_parameters"], retrained["head_parameters"]
    both = (searched, retrained)
    return replace(
        base,
        metric=evaluated["metric"],
        score=evaluated["score"],
        higher_is_better=next((s.higher_is_better for s in scores if s.name == evaluated["metric"]), True),
        scores=scores,
        rows=tuple(rows),
        adapter_parameters=trained - head,
        trainable_parameters=trained,
        ranks=run.ranks() if ranks_file(run.path).exists() else None,
        search_seconds=searched.get("seconds", 0.0),
        retrain_seconds=retrained["seconds"],
        peak_memory_mib=max(_memory(stage) for stage in both),
        forward_passes=sum(stage.get("forward_passes", 0) for stage in both),
        backward_passes=sum(stage.get("backward_passes", 0) for stage in both),
    )


def reason(status: Mapping[str, Any]) -> str | None:
    """The first line of what went wrong; None where nothing did.

    Args:
        status: What the run's status.json says.
    """
    errors = [status.get("error"), *(stage.get("error") for stage in status["stages"].values())]
    said = [" ".join(str(error).split()) for error in errors if error]
    return said[0] if said else None


def _state(status: Mapping[str, Any]) -> str:
    """Of a run that has not been measured: the last stage may have succeeded."""
    return "partial" if status["state"] == "success" else str(status["state"])


def _left(status: Mapping[str, Any]) -> str | None:
    """What a run that goes on nowhere has still to do."""
    if _state(status) != "partial":
        return None
    done = [name for name in STAGES if name in counting(status["stages"])]
    left = STAGES[STAGES.index(done[-1]) + 1 :] if done else STAGES
    return f"{' and '.join(left)} {'is' if len(left) == 1 else 'are'} still to do"


def _at_it(run: Run) -> str | None:
    """Who is at a run that has not ended."""
    holder = run.live_process()
    return None if holder is None else f"{holder} is at it"


def _scores(evaluated: Mapping[str, Any], row: Mapping[str, Any], metrics: Sequence[str]) -> tuple[Score, ...]:
    """What the manifest says; of an earlier version's run, the numbers of the table's first row."""
    if "scores" in evaluated:
        return tuple(Score(**score) for score in evaluated["scores"])
    outputs = [output for name in metrics for output in METRICS.load(name).outputs]
    return tuple(output.score(row[output.name]) for output in outputs if output.name in row)


def _memory(stage: Mapping[str, Any]) -> float:
    peak = stage.get("peak_memory_mib", {})
    return float(peak.get("device", peak.get("process", 0.0)))
