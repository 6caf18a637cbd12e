"""One search for several runs: what a run's search left is taken over by another whose search would be the same.

A comparison says whose (`offer`); the run takes it over if it is what it would have found itself (`taken_over`). The
files are copied, so that every run is whole, and so are the costs: they are those of the method run alone.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from autolora.context.base import Context
from autolora.files import write_atomic
from autolora.methods.searched import EVIDENCE, HEAD, belong_to
from autolora.runs.base import differences, read_base
from autolora.runs.contained import beside
from autolora.runs.store import Run
from autolora.training.checkpoint import load_checkpoint

SHARED = "shared"  # in the manifest, of the search: the path of the run that made it, from this one
_SECONDS = "found_seconds"  # likewise: the seconds of it, without the ranks that are read off it
_LOG = "log.jsonl"


def has_search(run: Run) -> bool:
    """Whether a run's search has been made, so that others may take it over.

    Args:
        run: The run, of whatever state.
    """
    return all((run.path / "search" / name).is_file() for name in (HEAD, EVIDENCE))


def offer(run: Run, source: Run) -> None:
    """Say whose search a run may take over, by its path from here: runs move together.

    Args:
        run: That has not been searched.
        source: That has.
    """
    run.note("search", **{SHARED: Path(os.path.relpath(source.path.resolve(), run.path.resolve())).as_posix()})


def offered(run: Run) -> Path | None:
    """The folder of the run whose search this one was told that it may take over; None where none was.

    Args:
        run: Any.

    Raises:
        UserError: It lies elsewhere than beside it.
    """
    path = _noted(run).get(SHARED)
    return None if path is None else beside(run.path, path, f"manifest.json, stages.search.{SHARED}")


def note_found(run: Run) -> None:
    """Keep what a search has taken before ranks are read off it.

    Args:
        run: Whose search has just been made.
    """
    run.note("search", **{_SECONDS: _noted(run).get("seconds", 0.0)})


def taken_over(run: Run, context: Context, identity: str) -> bool:
    """Take over the search that was offered, with its costs; False where none was, or it is another one.

    Args:
        run: That has not been searched.
        context: Of the run.
        identity: Of its search.

    Raises:
        UserError: What was offered is not what was written.
    """
    other = offered(run)
    if other is None:
        return False
    source = Run.open(other) if (other / "recipe.yaml").is_file() else None
    fits = source is not None and belong_to(source.path / "search", identity) and _same_base(run, source, context)
    if source is not None and fits:
        _check_whole(source)
    context.compute.wait()  # all have read what was offered
    if source is None or not fits:
        run.note("search", **{SHARED: None})
        return False
    noted = _noted(source)
    costs = {name: value for name, value in noted.items() if name not in (SHARED, "seconds")}
    if context.main:
        run.note("search", **costs, seconds=noted.get(_SECONDS, noted.get("seconds", 0.0)))
        for name in (_LOG, HEAD, EVIDENCE):  # they are whole once the last is there
            if (source.path / "search" / name).exists():
                write_atomic(run.path / "search" / name, (source.path / "search" / name).read_bytes())
    context.compute.wait()
    return belong_to(run.path / "search", identity)


def _check_whole(source: Run) -> None:
    """Raises UserError where what is to be taken over is not what was written."""
    for name in (HEAD, EVIDENCE):
        load_checkpoint(source.path / "search" / name)
    source.verified(f"search/{_LOG}")


def _noted(run: Run) -> dict[str, Any]:
    return dict(run.manifest().get("stages", {}).get("search", {}))


def _same_base(run: Run, source: Run, context: Context) -> bool:
    """Whether both were begun on the same pretrained model; loads this one's, which settles what that is."""
    context.model()
    context.compute.wait()
    mine, other = read_base(run.path), read_base(source.path)
    return mine is not None and other is not None and not any(differences(other, mine))
