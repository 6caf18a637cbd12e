"""What a report reads of a run beside its `Result`: ``searched_ranks(run)``, ``loss_curves(…)``, ``records(…)``.

A file that is not there is None or empty. One that is damaged is a UserError that names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autolora.errors import UserError
from autolora.files import parse_json
from autolora.lora.ranks import Ranks
from autolora.runs.inventory import verified

Record = Mapping[str, Any]
Points = list[tuple[float, float]]  # (step, loss)


def searched_ranks(run: Path) -> Ranks | None:
    """What the run's search found; None where it has found nothing."""
    path = verified(run, "search/ranks.json")
    if not path.exists():
        return None
    try:
        return Ranks.load(path)
    except UserError as error:
        raise damaged(path, error) from error


def count_records(run: Path, stage: str) -> int:
    """How many lines a stage's log has."""
    return sum(1 for _ in _lines(verified(run, f"{stage}/log.jsonl")))


def records(run: Path, stage: str, only: frozenset[int] | None = None) -> Iterator[dict[str, Any]]:
    """The lines of a stage's log, one at a time: a log of a large model does not fit into memory.

    Args:
        run: The run's folder.
        stage: search or retrain.
        only: Which of them, from 0; None for all.

    Raises:
        UserError: A line is damaged.
    """
    path = verified(run, f"{stage}/log.jsonl")
    for place, (number, line) in enumerate(_lines(path)):
        if only is not None and place not in only:
            continue
        try:
            record = parse_json(line)
            float(record["step"])
        except (ValueError, TypeError, KeyError) as error:
            raise damaged(path, error, f", line {number}") from error
        yield record


def loss_curves(run: Path, stage: str, losses: Sequence[str], like: str = "") -> dict[str, Points]:
    """(step, loss) of a stage's log for each loss that it has, in one reading; null is not a number.

    Args:
        run: The run's folder.
        stage: search or retrain.
        losses: Their names in the log.
        like: Whatever else begins like this is read, too; "": nothing else.

    Raises:
        UserError: The log is damaged.
    """
    found: dict[str, Points] = {}
    try:
        for line in records(run, stage):
            more = [name for name in line if like and name.startswith(like)]
            for loss in (*losses, *more):
                if loss in line:
                    found.setdefault(loss, []).append((float(line["step"]), _number(line[loss])))
    except (ValueError, TypeError) as error:
        raise damaged(run / stage / "log.jsonl", error) from error
    return found


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that end and are not empty, with their numbers; half a line at the end is still being written."""
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            whole = ((number, line) for number, line in enumerate(file, start=1) if line.endswith("\n"))
            yield from ((number, line) for number, line in whole if line.strip())
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception, where: str = "") -> UserError:
    """The error that names a damaged file."""
    return UserError(
        f"{path}{where} is damaged ({type(error).__name__}: {error}); leave the run out, or write the file anew with "
        f"--resume"
    )
