"""How far a run is, from its files alone: ``progress(folder)``, by any process on any host that sees the folder.

Nothing is locked or written. A log whose last line is half written, a file that is being replaced, a run that is gone:
each gives what is known, and never an error.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from autolora.errors import UserError
from autolora.runs.choosing import made_at
from autolora.runs.folders import is_run
from autolora.runs.inventory import MANIFEST, STATUS, read_run_state
from autolora.runs.lock import Holder, Lock
from autolora.runs.summary import RUNNING, Summary, current

TAIL = 4 << 20  # bytes at the end of a log that are read: its lines have the selection variables
POINTS = 60  # of a curve
_HEADER = 1 << 20  # bytes of a checkpoint's header, at most


@dataclass(frozen=True)
class HeldOutCurve:
    """What rows say that are held out of training, by which weights are chosen.

    Args:
        name: In the log.
        points: (step, value), oldest first; at least one.
        best: That of the best value, the first of equal ones.
        kept: The step whose weights are written; None while the training goes on.
    """

    name: str
    points: Sequence[tuple[int, float]]
    best: tuple[int, float]
    kept: int | None


@dataclass(frozen=True)
class Progress:
    """A run at a moment.

    Args:
        summary: Of the run, with who is at it.
        part: The folder that its steps are logged in, ``retrain`` or ``search/rank-2``; None before there is one.
        stage: That is running, or was last.
        step: Steps done that are known of: logged, or in the checkpoint.
        total: Of the part; None where that is not known.
        losses: The last logged, by name.
        curve: The training losses of the log's last lines, oldest first.
        rates: Learning rates, by name.
        speed: Steps a second since the part was begun or gone on with; None where there is none yet.
        left: Seconds that its steps will take; None where that is not known.
        ranks: The last logged, by module.
        selection: The last logged selection variables, by module.
        memory_mib: Resident memory of its process where that is on this host, else the peak that was noted.
        holder: Who is at it.
        seconds: Since its stage was begun.
        stages: The state of each, by name.
        held_out: What rows say by which its weights are chosen; None where they aren't.
    """

    summary: Summary
    part: str | None = None
    stage: str | None = None
    step: int | None = None
    total: int | None = None
    losses: Mapping[str, float] = field(default_factory=dict)
    curve: Sequence[float] = ()
    rates: Mapping[str, float] = field(default_factory=dict)
    speed: float | None = None
    left: float | None = None
    ranks: Mapping[str, int] = field(default_factory=dict)
    selection: Mapping[str, Sequence[float]] = field(default_factory=dict)
    memory_mib: float | None = None
    holder: Holder | None = None
    seconds: float | None = None
    stages: Mapping[str, str] = field(default_factory=dict)
    held_out: HeldOutCurve | None = None

    @property
    def running(self) -> bool:
        """Whether somebody is at it."""
        return self.summary.state == RUNNING

    def quantiles(self) -> tuple[float, float, float] | None:
        """Least, median and greatest of the selection variables; None where there are none."""
        values = [value for each in self.selection.values() for value in each]
        return (min(values), statistics.median(values), max(values)) if values else None


def progress(folder: Path, now: datetime) -> Progress:
    """A run as it is now.

    Args:
        folder: The run's; it may be gone.
        now: The time.
    """
    summary = current(folder)
    status, manifest = _state(folder / STATUS), _state(folder / MANIFEST)
    stage = summary.stage
    noted = manifest.get("stages", {}).get(stage or "", {})
    begun = status.get("stages", {}).get(stage or "", {})
    since = made_at(str(begun.get("at", "")))
    elapsed = None if since is None else max(0.0, (now - since).total_seconds())
    holder = Lock(folder / ".lock").holder() if is_run(folder) else None
    peak = noted.get("peak_memory_mib", {})
    found = Progress(
        summary,
        stage=stage,
        memory_mib=_resident_mib(holder) or peak.get("device", peak.get("process")),
        holder=holder,
        seconds=elapsed,
        stages=summary.stages,
    )
    return _with_steps(found, folder, noted, now)


def _with_steps(found: Progress, folder: Path, noted: Mapping[str, Any], now: datetime) -> Progress:
    """The same with what the log says of the stage's steps, if it takes any."""
    underway = noted.get("underway", {})
    part = underway.get("part")
    if not isinstance(part, str) or ".." in Path(part).parts or Path(part).is_absolute():
        return found
    lines = tail(folder / part / "log.jsonl")
    last = lines[-1] if lines else {}
    logged, kept = _whole(last.get("step")), _checkpoint_step(folder / part / "checkpoint.safetensors")
    step = max((each for each in (logged, kept) if each is not None), default=0)
    total, first, at = (
        _whole(underway.get("total")),
        _whole(underway.get("first")) or 0,
        made_at(str(underway.get("at"))),
    )
    speed = None
    if logged is not None and at is not None and logged > first:
        written = (folder / part / "log.jsonl").stat().st_mtime if (folder / part / "log.jsonl").exists() else 0.0
        speed = (logged - first) / max(written - at.timestamp(), 1e-3)
    left = None if speed is None or total is None or not found.running else max(0, total - step) / speed
    numbers = {name: float(value) for name, value in last.items() if type(value) in (int, float) and name != "step"}
    rates = {name: value for name, value in numbers.items() if name.endswith("learning_rate")}
    curve = [float(line["train_loss"]) for line in lines if type(line.get("train_loss")) in (int, float)]
    return Progress(
        **{
            **vars(found),
            "part": part,
            "step": step,
            "total": total,
            "losses": {name: value for name, value in numbers.items() if name not in rates},
            "curve": curve[-POINTS:],
            "rates": rates,
            "speed": speed,
            "left": left,
            "ranks": _mapping(last.get("ranks"), int),
            "selection": _mapping(last.get("selection"), list),
            "held_out": _held_out(lines, underway.get("chosen_by"), noted.get("kept")),
        }
    )


def _held_out(lines: Sequence[Mapping[str, Any]], chosen_by: object, kept: object) -> HeldOutCurve | None:
    if not (isinstance(chosen_by, list) and len(chosen_by) == 2 and isinstance(chosen_by[0], str)):
        return None
    name, higher = chosen_by
    points = [(int(line["step"]), float(line[name])) for line in lines if type(line.get(name)) in (int, float)]
    if not points:
        return None
    best = max(points, key=lambda point: point[1]) if higher else min(points, key=lambda point: point[1])
    return HeldOutCurve(name, points, best, _whole(kept.get("step")) if isinstance(kept, dict) else None)


def tail(path: Path) -> list[dict[str, Any]]:
    """The last records of a log, oldest first; without what is half written, cut off or damaged.

    Args:
        path: The file; it need not be there.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            text = file.read(TAIL)
    except OSError:
        return []
    lines = text.split(b"\n")[:-1]  # what does not end is being written
    found = []
    for line in lines[1:] if size > TAIL else lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and _whole(record.get("step")) is not None:
            found.append(record)
    return found


def _checkpoint_step(path: Path) -> int | None:
    """The step in a checkpoint's header, which is read without its tensors, and believed as it is."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= _HEADER else {}
        metadata = header["__metadata__"]
        record = json.loads(json.loads(metadata["checked"])[0] if "checked" in metadata else metadata["record"])
        return _whole(record["step"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _state(path: Path) -> dict[str, Any]:
    try:
        return read_run_state(path)
    except UserError:
        return {}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _mapping(value: object, of: type) -> dict[str, Any]:
    """What is a mapping to values of a kind; the rest is left out."""
    if not isinstance(value, dict):
        return {}
    return {str(name): each for name, each in value.items() if type(each) is of}


def _resident_mib(holder: Holder | None) -> float | None:
    """The memory of a process of this host, where /proc tells; processes of another host cannot be asked."""
    if holder is None or holder.host != socket.gethostname():
        return None
    try:
        lines = Path(f"/proc/{holder.pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
