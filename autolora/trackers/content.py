"""What is sent of a run, whichever tracker it goes to: read from its records and files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autolora.allocation.store import load_evidence
from autolora.errors import UserError
from autolora.files import file_hash, read_json
from autolora.lora.ranks import Ranks
from autolora.recipe.schema import Recipe
from autolora.registry import SCORES
from autolora.runs.store import Run
from autolora.tasks.base import part_of
from autolora.trackers.base import BY_LAYER
from autolora.training.log import MetricLog

TAKEN = ("seconds", "peak MiB")
PICTURES = {"search/rank map": "search/ranks.png", "search/selection": "search/selection.png"}


@dataclass(frozen=True)
class Sent:
    """What belongs to one step.

    Args:
        step: Of its log, from 1.
        scalars: Numbers by name.
        histograms: Distributions by name.
        pictures: PNG files by name.
    """

    step: int
    scalars: Mapping[str, float] = field(default_factory=dict)
    histograms: Mapping[str, Sequence[float]] = field(default_factory=dict)
    pictures: Mapping[str, Path] = field(default_factory=dict)

    def content(self) -> list[object]:
        """What makes it another one, JSON-able: not what it took, which is never the same twice."""
        scalars = {name: value for name, value in self.scalars.items() if not any(each in name for each in TAKEN)}
        pictures = {name: file_hash(path) for name, path in self.pictures.items()}
        return [self.step, scalars, {name: list(each) for name, each in self.histograms.items()}, pictures]


def of_record(log: str, record: Mapping[str, Any]) -> Sent:
    """What a record of a metric log says: its numbers, and distributions of what it has by layer.

    Args:
        log: The log's folder, ``search``.
        record: With its "step".
    """
    scalars = {f"{log}/{name}": float(value) for name, value in record.items() if name != "step" and _number(value)}
    histograms: dict[str, Sequence[float]] = {}
    for name, value in record.items():
        layers = _by_layer(value)
        if layers:
            histograms[f"{log}/{name}"] = [x for each in layers.values() for x in each]
        if layers and all(len(each) > 1 for each in layers.values()):
            histograms |= {f"{log}/{name}{BY_LAYER}{layer}": each for layer, each in layers.items()}
    if isinstance(ranks := record.get("ranks"), Mapping) and ranks:
        scalars[f"{log}/total rank"] = float(sum(ranks.values()))
    return Sent(int(record["step"]), scalars, histograms)


def of_stage(run: Run, stage: str) -> Iterator[Sent]:
    """What there is at the end of a stage: scores and ranks as distributions, pictures, metrics, costs.

    Args:
        run: The run.
        stage: That has succeeded.
    """
    noted = run.manifest().get("stages", {}).get(stage, {})
    step = max(1, int(noted.get("steps", 0)))
    costs = {f"{stage}/{name}": float(value) for name, value in noted.items() if _number(value) and name != "score"}
    costs |= {f"{stage}/peak MiB {of}": float(mib) for of, mib in noted.get("peak_memory_mib", {}).items()}
    if stage == "eval":
        yield Sent(1, {**costs, **_metrics(run.path / "metrics.json")})
        return
    pictures = {name: run.path / file for name, file in PICTURES.items() if file.startswith(f"{stage}/")}
    pictures = {name: path for name, path in pictures.items() if path.is_file()}
    yield Sent(step, costs, _of_ranks(run, stage), pictures)


def records_of(run: Run, stage: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The records of a stage's metric logs, each with its log's folder from the run's.

    Args:
        run: The run.
        stage: Of any state.
    """
    for path in sorted((run.path / stage).rglob("log.jsonl")):
        log = path.parent.relative_to(run.path).as_posix()
        yield from ((log, record) for record in MetricLog(path).records() if "step" in record)


def flat(recipe: Recipe) -> dict[str, Any]:
    """The fields of a resolved recipe by dotted name.

    Args:
        recipe: It.
    """
    return dict(_flat(recipe.model_dump(mode="json"), ""))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            plain = value is None or isinstance(value, bool | int | float | str)
            yield prefix + name, value if plain else str(value)


def _of_ranks(run: Run, stage: str) -> dict[str, Sequence[float]]:
    """Ranks, and what each component is worth: by the recipe's score, and by the saliencies of a search."""
    found: dict[str, Sequence[float]] = {}
    path = run.path / stage / "ranks.json"
    if path.is_file():
        found[f"{stage}/final ranks"] = [float(rank) for rank in Ranks.load(path).values()]
    evidence = run.path / stage / "evidence.safetensors"
    if evidence.is_file():
        known = load_evidence(evidence)
        for score in dict.fromkeys((run.recipe.ranks.score, "saliency")):
            with suppress(UserError):  # what it is computed from was not measured
                values = [x for each in SCORES.load(score)(known).values() for x in each.tolist()]
                found[f"{stage}/scores/{score}"] = values
    return {name: values for name, values in found.items() if values}


def _metrics(path: Path) -> dict[str, float]:
    """The metrics table: ``eval/validation/f1``, and of a part of a split ``eval/validation/Disease/f1``."""
    found: dict[str, float] = {}
    for row in read_json(path) if path.is_file() else []:
        where = "/".join(["eval", str(row.get("split", "")), *part_of(row)])
        found |= {f"{where}/{name}": float(value) for name, value in row.items() if _number(value)}
    return found


def _by_layer(value: object) -> dict[str, list[float]]:
    """Numbers by layer, one or several each; none where it is something else."""
    if not isinstance(value, Mapping) or not value:
        return {}
    lists = {str(name): each if isinstance(each, list) else [each] for name, each in value.items()}
    right = all(each and all(map(_number, each)) for each in lists.values())
    return lists if right else {}


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
