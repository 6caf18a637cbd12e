"""What a report reads of a run beside its `Result`: ``searched_ranks(run)``, ``records(run, "search")``, ``curve(…)``.

A file that is not there is None or empty. One that is damaged is a UserError that names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autolora.errors import UserError
from autolora.files import parse_json
from autolora.lora.ranks import Ranks
from autolora.runs.inventory import verified
from autolora.training.log import whole_lines

Record = Mapping[str, Any]


def searched_ranks(run: Path) -> Ranks | None:
    """What the run's search found; None where it has found nothing."""
    path = verified(run, "search/ranks.json")
    if not path.exists():
        return None
    try:
        return Ranks.load(path)
    except UserError as error:
        raise damaged(path, error) from error


def records(run: Path, stage: str) -> list[dict[str, Any]]:
    """The lines of a stage's log."""
    path = verified(run, f"{stage}/log.jsonl")
    text, found = _text(path), []
    for number, line in enumerate(whole_lines(text or ""), start=1):
        try:
            if line:
                found.append(parse_json(line))
                float(found[-1]["step"])
        except (ValueError, TypeError, KeyError) as error:
            raise damaged(path, error, f", line {number}") from error
    return found


def curve(run: Path, lines: Sequence[Record], loss: str, stage: str) -> list[tuple[float, float]]:
    """(step, loss) of those log lines that have this loss; null is not a number."""
    try:
        return [(float(line["step"]), _number(line[loss])) for line in lines if loss in line]
    except (ValueError, TypeError) as error:
        raise damaged(run / stage / "log.jsonl", error) from error


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception, where: str = "") -> UserError:
    """The error that names a damaged file."""
    return UserError(
        f"{path}{where} is damaged ({type(error).__name__}: {error}); leave the run out, or write the file anew with "
        f"--resume"
    )
