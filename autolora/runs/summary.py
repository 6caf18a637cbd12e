"""A run in a line: ``summarise(folder)``, and whether one that was read before still holds: ``seen(folder)``.

It is read from recipe.yaml, status.json and manifest.json; results with all that belongs to them, made sure of file by
file, are `autolora.runs.results`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autolora.errors import UserError
from autolora.files import read_json
from autolora.recipe.method import label
from autolora.runs.inventory import MANIFEST, RECIPE, STATUS
from autolora.runs.lock import Lock
from autolora.runs.results import reason
from autolora.runs.status import STAGES, counting
from autolora.runs.store import Run

Seen = tuple[tuple[int, int, int], ...]

FINISHED, RUNNING, FAILED, INTERRUPTED = "finished", "running", "failed", "interrupted"
PARTIAL, UNREADABLE = "partial", "unreadable"
SETTLED = (FINISHED, UNREADABLE)  # whoever is at such a run
STATES = {  # as users meet them
    FINISHED: "measured: all stages succeeded",
    RUNNING: "a process is at it",
    FAILED: "a stage failed",
    INTERRUPTED: "cancelled, or its process is gone; --resume goes on with it",
    PARTIAL: "what was begun succeeded, and a stage is left",
    UNREADABLE: "damaged, or of a later version",
}
LOOKED_AT = (RECIPE, STATUS, MANIFEST, "search", "retrain")  # what changes of a run changes one of these, or its folder
_GONE = (0, 0, 0)


@dataclass(frozen=True)
class Summary:
    """One run.

    Args:
        path: Its folder, from the folder of the runs, with slashes.
        state: One of `STATES`, as its files say: that somebody is at it is not in them (`state_now`).
        recipe: Its name; "" where it cannot be read, and so is the method.
        method: Its label.
        seed: Of the recipe.
        stage: The last that was begun.
        stages: The state of each that was begun, by name.
        metric: That methods are compared by; None before it is measured.
        score: Its value.
        higher_is_better: Of the metric.
        parameters: Trained ones beside the head; None before they are known.
        size: Bytes on disk, of all files in the folder.
        created: When it was made, in ISO 8601; "" where that is not known.
        seconds: What its stages have taken.
        reason: Why it failed or cannot be read, in one line.
        tuning: Whether it only tries a setting, and is reported nowhere.
    """

    path: str
    state: str
    recipe: str = ""
    method: str = ""
    seed: int | None = None
    stage: str | None = None
    stages: Mapping[str, str] = field(default_factory=dict)
    metric: str | None = None
    score: float | None = None
    higher_is_better: bool = True
    parameters: int | None = None
    size: int = 0
    created: str = ""
    seconds: float | None = None
    reason: str | None = None
    tuning: bool = False


def seen(folder: Path) -> Seen:
    """What is another when anything of a run's summary is: node, time and size of files, and of folders.

    Args:
        folder: The run's.
    """
    return (_stat(str(folder)), *(_stat(f"{folder}{os.sep}{name}") for name in LOOKED_AT))


def _stat(path: str) -> tuple[int, int, int]:
    try:
        said = os.stat(path)  # noqa: PTH116 (thousands of paths are made of no parts)
    except OSError:
        return _GONE
    return said.st_ino, said.st_mtime_ns, said.st_size


def summarise(folder: Path, path: str, *, tuning: bool = False) -> Summary:
    """Read a run.

    Args:
        folder: The run's, whole or damaged.
        path: What the summary calls it.
        tuning: Whether it only tries a setting.
    """
    try:
        run = Run.open(folder)
        status = run.status()
        manifest = run.manifest() if (folder / MANIFEST).exists() else {}  # the earliest have none
        return _summary(run, status, manifest, path, tuning)
    except (UserError, OSError) as error:
        said = " ".join(str(error).split())
        made = _created(folder)
        return Summary(path, UNREADABLE, size=size_of(folder), created=made, reason=said, tuning=tuning)


def _summary(run: Run, status: Mapping[str, Any], manifest: Mapping[str, Any], path: str, tuning: bool) -> Summary:
    stages, noted = status["stages"], manifest.get("stages", {})
    retrained, measured = noted.get("retrain", {}), noted.get("eval", {})
    state, metric, trained = _state(status), measured.get("metric"), retrained.get("trainable_parameters")
    higher = [score.get("higher_is_better", True) for score in measured.get("scores", []) if score["name"] == metric]
    return Summary(
        path,
        state,
        run.recipe.name,
        label(run.recipe.method),
        run.recipe.seed,
        stage=max(stages, key=lambda name: str(stages[name].get("at", "")), default=None),
        stages={name: str(stage["state"]) for name, stage in stages.items()},
        metric=metric if state == FINISHED else None,
        score=measured.get("score") if state == FINISHED else None,
        higher_is_better=next(iter(higher), True),
        parameters=None if trained is None else trained - retrained.get("head_parameters", 0),
        size=size_of(run.path),
        created=str(manifest.get("created", "")),
        seconds=sum(noted.get(name, {}).get("seconds", 0.0) for name in STAGES) if noted else None,
        reason=None if state == FINISHED else reason(status),
        tuning=tuning,
    )


def _created(folder: Path) -> str:
    """When a damaged run was made; "" where its manifest does not say."""
    try:
        manifest = read_json(folder / MANIFEST)
    except UserError:
        return ""
    return str(manifest.get("created", "")) if isinstance(manifest, dict) else ""


def _state(status: Mapping[str, Any]) -> str:
    """What the files say; whoever says that it runs may be gone."""
    if counting(status["stages"]).get("eval", {}).get("state") == "success":
        return FINISHED
    return {"failed": FAILED, "success": PARTIAL}.get(status["state"], INTERRUPTED)


def state_now(folder: Path, state: str) -> str:
    """The state with who is at the run right now.

    Args:
        folder: The run's.
        state: Of its summary, which is neither finished nor unreadable.
    """
    return RUNNING if Lock(folder / ".lock").holder() is not None else state


def current(folder: Path) -> Summary:
    """A run as it is now, with who is at it.

    Args:
        folder: The run's.
    """
    found = summarise(folder, folder.name)
    return found if found.state in SETTLED else replace(found, state=state_now(folder, found.state))


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder and below it; links count as links.

    Args:
        folder: It need not be there.
    """
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            try:
                total += Path(parent, name).lstat().st_size
            except OSError:  # it has gone in the meantime
                continue
    return total
