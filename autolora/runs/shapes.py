"""What the state files of a run may hold: ``check_state(path, content)``, ….

Whoever reads them relies on it: nothing that a file holds ends in an error of Python's. Later versions may write more.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Required

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from autolora.errors import UserError

Number = int | float
WITHOUT_LIMIT = ConfigDict(strict=True)


@with_config(WITHOUT_LIMIT)
class Stage(TypedDict, total=False):
    """Of status.json."""

    state: Required[str]
    at: str
    seconds: Number
    pid: int | None
    error: str | None
    traceback: str | None


@with_config(WITHOUT_LIMIT)
class Status(TypedDict, total=False):
    """status.json."""

    state: Required[str]
    stages: Required[dict[str, Stage]]
    error: str | None
    traceback: str | None


@with_config(WITHOUT_LIMIT)
class Score(TypedDict, total=False):
    """A metric's value in the manifest."""

    name: Required[str]
    value: Required[Number | None]
    higher_is_better: bool


@with_config(WITHOUT_LIMIT)
class Made(TypedDict, total=False):
    """What a stage noted in manifest.json."""

    seconds: Number
    found_seconds: Number
    steps: int
    processes: int
    trainable_parameters: int
    head_parameters: int
    forward_passes: int
    backward_passes: int
    peak_memory_mib: dict[str, Number]
    device: dict[str, Any]
    data: dict[str, str]
    model: str
    shared: str | None
    metric: str
    score: Number | None
    scores: list[Score]
    recovery: dict[str, Any]
    underway: dict[str, Any]


@with_config(WITHOUT_LIMIT)
class Manifest(TypedDict, total=False):
    """manifest.json."""

    format: int
    created: str
    seed: int
    autolora: str
    commit: str | None
    dirty: bool | None
    python: str
    platform: str
    packages: dict[str, str | None]
    made_here: list[str]
    sources: dict[str, str]
    stages: dict[str, Made]
    data: dict[str, Any]


STATES = {"manifest.json": Manifest, "status.json": Status}
NEEDED = {  # of the stages of a run that has been measured
    "retrain": ("trainable_parameters", "head_parameters", "seconds"),
    "eval": ("metric", "score"),
}


def check_state(path: Path, content: object) -> None:
    """Make sure that it is what a run's manifest.json or status.json holds.

    Args:
        path: The file.
        content: Of it.

    Raises:
        UserError: It is not.
    """
    _check(path, content, STATES[path.name])


def check_metrics(path: Path, content: object) -> None:
    """Make sure that it is a metrics table with a row at least.

    Args:
        path: The file.
        content: Of it.

    Raises:
        UserError: It is not.
    """
    _check(path, content, list[dict[str, str | int | float | None]])
    if not content:
        raise _fault(path, "it has no row")


def check_measured(path: Path, stages: Mapping[str, Mapping[str, Any]]) -> None:
    """Make sure that the manifest of a run that has been measured says what its result needs.

    Args:
        path: The file.
        stages: Its stages.

    Raises:
        UserError: Something is missing.
    """
    for stage, names in NEEDED.items():
        if missing := [name for name in names if name not in stages.get(stage, {})]:
            raise _fault(path, f"stages.{stage}.{missing[0]} is missing, and the run's status is success")


def _check(path: Path, content: object, shape: Any) -> None:
    try:
        _adapter(shape).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise _fault(path, f"{f'{place}: ' if place else ''}{first['msg']}") from None


def _fault(path: Path, what: str) -> UserError:
    return UserError(f"{path} is not what autolora writes: {what}; put the file back, or start a new run")


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)
