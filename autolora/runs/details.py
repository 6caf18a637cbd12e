"""Everything of one run, and what differs between two: ``details(folder)``, ``differences(a, b)``, both JSON-able."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autolora.errors import UserError
from autolora.lora.ranks import Ranks
from autolora.recipe.fields import WHOLE
from autolora.recipe.method import label
from autolora.runs.base import read_base
from autolora.runs.folders import ranks_file
from autolora.runs.inventory import MANIFEST
from autolora.runs.results import Result, read_result, reason
from autolora.runs.status import STAGES
from autolora.runs.store import Run
from autolora.runs.summary import STATES, size_of

VERSIONS = ("autolora", "commit", "dirty", "python", "platform")
_PATHS = ("recipe.yaml", "adapter", "search/ranks.json", "metrics.md", "predictions")
_LOGS = ("search/log.jsonl", "retrain/log.jsonl")


def details(folder: Path, state: str) -> dict[str, Any]:
    """A run, finished or not.

    Args:
        folder: The run's.
        state: One of `autolora.runs.summary.STATES`, as of now.

    Raises:
        UserError: It cannot be opened.
    """
    run = Run.open(folder)
    status = run.status()
    manifest = run.manifest() if (folder / MANIFEST).exists() else {}
    result, damage = _result(run)
    ranks, no_ranks = _ranks(run)
    noted = manifest.get("stages", {})
    return {
        "run": str(folder),
        "state": state,
        "state_means": STATES[state],
        "recipe": run.recipe.name,
        "method": label(run.recipe.method),
        "seed": run.recipe.seed,
        "task": run.recipe.task,
        "model": run.recipe.model.name,
        "created": manifest.get("created"),
        "disk_bytes": size_of(folder),
        "reason": None if result is not None and result.state == "success" else reason(status),
        "damage": damage or no_ranks,
        "stages": {
            name: _stage(status["stages"][name], noted.get(name, {})) for name in STAGES if name in status["stages"]
        },
        "scores": _scores(result),
        "metric": None if result is None else result.metric,
        "adapter_parameters": None if result is None else result.adapter_parameters,
        "trainable_parameters": None if result is None else result.trainable_parameters,
        "ranks": None if ranks is None else rank_record(ranks),
        "builds_on": dict(manifest.get("sources", {})),
        "versions": _versions(manifest),
        "device": noted.get("retrain", noted.get("search", {})).get("device"),
        "files": [name for name in (*_PATHS, *_LOGS) if (folder / name).exists()],
    }


def _result(run: Run) -> tuple[Result | None, str | None]:
    try:
        return read_result(run), None
    except UserError as error:
        return None, str(error)


def _ranks(run: Run) -> tuple[Ranks | None, str | None]:
    if not ranks_file(run.path).exists():
        return None, None
    try:
        return run.ranks(), None
    except UserError as error:
        return None, str(error)


def _scores(result: Result | None) -> dict[str, float | None]:
    """By name; of a result without single scores, the one that it has."""
    if result is None:
        return {}
    found = {score.name: score.value for score in result.scores}
    return found or ({} if result.metric is None else {result.metric: result.score})


def _stage(status: Mapping[str, Any], noted: Mapping[str, Any]) -> dict[str, Any]:
    names = ("steps", "forward_passes", "backward_passes", "peak_memory_mib", "processes", "shared")
    return {
        "state": status["state"],
        "at": status.get("at"),
        "seconds": noted.get("seconds", status.get("seconds")),
        **{name: noted[name] for name in names if noted.get(name) is not None},
    }


def _made_of(run: Run) -> dict[str, str]:
    """Beginnings of the hashes of the pretrained model, and of the rows by split; of what has not begun, nothing."""
    try:
        base = read_base(run.path)
    except UserError:
        base = None
    model = {} if base is None else {"base model's weights": base.weights, "base model's tokenizer": base.tokenizer}
    stages = run.manifest().get("stages", {}) if (run.path / MANIFEST).exists() else {}
    rows = {
        f"rows of {split}": str(found)
        for stage in STAGES
        for split, found in (stages.get(stage, {}).get("data") or {}).items()
    }
    return {name: found[:12] for name, found in {**model, **rows}.items()}


def rank_record(ranks: Ranks) -> dict[str, Any]:
    """Ranks in short.

    Args:
        ranks: Of a run.

    Returns:
        Their "total", what they are out of ("initial"), the number of "modules", and how many have which rank.
    """
    held = Counter(ranks.values())
    return {
        "total": ranks.total,
        "initial": ranks.initial_rank,
        "modules": len(ranks),
        "modules_by_rank": {str(rank): held[rank] for rank in sorted(held)},
    }


def _versions(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: manifest.get(name) for name in VERSIONS if name in manifest}, **manifest.get("packages", {})}


def differences(one: Path, two: Path, states: tuple[str, str]) -> dict[str, Any]:
    """Two runs side by side.

    Args:
        one: The first run's folder.
        two: The second's.
        states: Theirs, as of now.

    Returns:
        "recipe", "made_of" (of what both have noted), "ranks" and "versions": what differs, each name with its two
        values; "scores", "cost": all of it.

    Raises:
        UserError: One cannot be opened.
    """
    runs = tuple(Run.open(path) for path in (one, two))
    found = tuple(details(path, state) for path, state in zip((one, two), states, strict=True))
    ranks: tuple[Mapping[str, int], ...] = tuple(_ranks(run)[0] or {} for run in runs)
    flat = tuple(dict(_flat(run.recipe.model_dump(mode="json", context=WHOLE))) for run in runs)
    costs = tuple(_costs(each) for each in found)
    return {
        "runs": [str(one), str(two)],
        "states": list(states),
        "recipe": _unlike(*flat),
        "made_of": {name: pair for name, pair in _unlike(*map(_made_of, runs)).items() if None not in pair},
        "scores": _side_by_side(found[0]["scores"], found[1]["scores"]),
        "rank_totals": [None if each["ranks"] is None else each["ranks"]["total"] for each in found],
        "ranks": _unlike(dict(ranks[0]), dict(ranks[1])),
        "cost": _side_by_side(*costs),
        "versions": _unlike(found[0]["versions"], found[1]["versions"]),
    }


def _costs(found: Mapping[str, Any]) -> dict[str, Any]:
    costs: dict[str, Any] = {
        f"{name} seconds": stage["seconds"] for name, stage in found["stages"].items() if stage["seconds"] is not None
    }
    for name in ("forward_passes", "backward_passes"):
        counts = [stage[name] for stage in found["stages"].values() if name in stage]
        costs |= {name.replace("_", " "): sum(counts)} if counts else {}
    peaks = [peak for stage in found["stages"].values() if (peak := peak_of(stage)) is not None]
    costs |= {"peak memory MiB": max(peaks)} if peaks else {}
    for name in ("adapter_parameters", "trainable_parameters"):
        costs |= {name.replace("_", " "): found[name]} if found[name] is not None else {}
    return {**costs, "bytes on disk": found["disk_bytes"]}


def peak_of(stage: Mapping[str, Any]) -> float | None:
    """A stage's peak of memory in MiB: the device's, where it ran on one; None where it noted none.

    Args:
        stage: Of `details`.
    """
    peak = stage.get("peak_memory_mib", {})
    found = peak.get("device", peak.get("process"))
    return None if found is None else float(found)


def _flat(value: Any, front: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a recipe by dotted name; a list is one value."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{front}.{key}" if front else str(key))
    else:
        yield front, value


def _unlike(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: pair for name, pair in _side_by_side(one, two).items() if pair[0] != pair[1]}


def _side_by_side(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: [one.get(name), two.get(name)] for name in dict.fromkeys((*one, *two))}
