"""Removing runs: ``remove(folder)``, whole or not at all, and what else has to do with one: ``users(folder)``.

A run is first renamed, to a name that no command takes for a run's (`autolora.runs.folders.is_removed`), and then
removed file by file. Whoever is killed in between leaves no half a run; what is left goes with the next one that is
removed beside it.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autolora.errors import UserError
from autolora.files import read_json, sync, write_json
from autolora.runs.folders import (
    COMPARISONS,
    MARKED,
    REMOVED,
    RUN_NAME,
    STAGES,
    TRIALS,
    all_run_folders,
    held_run,
    is_removed,
)
from autolora.runs.inventory import MANIFEST, STATUS, read_run_state
from autolora.runs.lock import HeldError, Lock
from autolora.runs.summary import size_of

_ABOVE = 6  # folders that comparisons are looked for in: a recipe's name has few parts


@dataclass(frozen=True)
class Users:
    """What has to do with a run.

    Args:
        comparisons: Folders of comparisons that have it in their tables.
        runs: Runs that build on it, or took its search over.
    """

    comparisons: tuple[Path, ...]
    runs: tuple[Path, ...]


def check_removable(folder: Path) -> None:
    """Make sure that a folder is a run's, a whole one or a damaged one, and nobody's at the moment.

    Args:
        folder: Any.

    Raises:
        UserError: It is something else, holds other runs, or somebody is at it.
    """
    if folder.is_symlink():
        raise UserError(f"{folder} is a link; name the run's own folder, {folder.resolve()}")
    if not held_run(folder):
        raise UserError(f"{folder} is not a run, and is not removed: it has no recipe.yaml and status.json")
    if not _was_made_here(folder):
        raise UserError(
            f"{folder} is not removed: nothing in it says that it is a run's (its name is none, and status.json and "
            "manifest.json are missing or damaged); look at what is in it, and remove it by hand"
        )
    if inside := sorted(path for path in all_run_folders(folder) if path != folder):
        raise UserError(f"{folder} holds other runs, such as {inside[0]}, and is not removed")
    for lock in (Lock(folder / ".lock"), *_trials_being_begun(folder)):
        if (holder := lock.holder()) is not None:
            raise UserError(f"{folder} is in use ({holder}), and is not removed; wait for it or stop it")


def _was_made_here(folder: Path) -> bool:
    """Whether it has a run's name or state: many a project has a recipe.yaml and a folder called eval."""
    if RUN_NAME.match(folder.name):
        return True
    for name in (STATUS, MANIFEST):
        with suppress(UserError):
            if (folder / name).is_file() and not {"format", "stages"}.isdisjoint(read_run_state(folder / name)):
                return True
    return False


def _trials_being_begun(folder: Path) -> Iterator[Lock]:
    """The locks of a comparison's trials beside a run that is said to run, and whose process is not at it yet."""
    with suppress(UserError):
        status = read_run_state(folder / "status.json")
        if status["state"] == "running" and not any(s["state"] == "running" for s in status["stages"].values()):
            yield from (Lock(path) for path in folder.parent.glob(".*.lock"))


def remove(folder: Path) -> int:
    """Remove a run.

    Args:
        folder: The run's.

    Returns:
        The bytes that its files had.

    Raises:
        UserError: See `check_removable`, or it cannot be removed.
    """
    check_removable(folder)
    finish_removing(folder.parent)
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}{REMOVED}")
    size, lock = size_of(folder), Lock(folder / ".lock")
    try:
        lock.acquire()
    except HeldError as error:
        raise UserError(f"{error}, and is not removed; wait for it or stop it") from error
    try:
        if os.name != "posix":  # a folder with an open file in it cannot be renamed there
            lock.release()
        folder.rename(aside)
    except OSError as error:
        raise UserError(f"{folder} cannot be removed: {error.strerror or error}; nothing of it is gone") from error
    finally:
        lock.release()
    sync(folder.parent)
    _delete(aside)
    return size


def finish_removing(parent: Path) -> None:
    """Remove what a process that was killed has left of runs.

    Args:
        parent: Folder of runs; not what is below them.
    """
    for path in parent.iterdir():
        if is_removed(path.name) and path.is_dir() and not path.is_symlink():
            _delete(path)


def _delete(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:  # another process is at the same
        shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{folder}, what is left of a removed run, cannot be removed: {error}") from error


def users(folder: Path) -> Users:
    """The comparisons and the runs that have to do with a run.

    Args:
        folder: The run's.
    """
    own = folder.resolve()
    compared = [path.parent for path in _trial_files(own) if own in _runs_in(path)]
    around = own.parent.parent if own.parent.name.startswith("_") else own.parent
    built = [path for path in all_run_folders(around) if path.resolve() != own and own in _sources(path)]
    return Users(tuple(sorted(compared)), tuple(sorted(built)))


def tell(comparison: Path, folder: Path, when: str) -> None:
    """Note in a comparison's list of trials that the run of one was removed; what it came to stays there.

    Args:
        comparison: Its folder.
        folder: The run's, which is gone.
        when: In ISO 8601.
    """
    own = folder.resolve()
    listed = _listed(comparison / TRIALS)
    for trial in listed:
        if _run_in(comparison, trial) == own:
            trial[MARKED] = when
    write_json(comparison / TRIALS, listed)


def _trial_files(run: Path) -> Iterator[Path]:
    for above in list(run.parents)[:_ABOVE]:
        if (above / COMPARISONS).is_dir():
            yield from sorted((above / COMPARISONS).rglob(TRIALS))


def _listed(path: Path) -> list[dict[str, Any]]:
    """The trials of a comparison; none where the file is no list of them."""
    try:
        found = read_json(path)
    except UserError:
        return []
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _runs_in(path: Path) -> set[Path | None]:
    return {_run_in(path.parent, trial) for trial in _listed(path)}


def _run_in(comparison: Path, trial: dict[str, Any]) -> Path | None:
    named = trial.get("run")
    return Path(os.path.normpath(comparison.resolve() / named)) if isinstance(named, str) else None


def _sources(folder: Path) -> set[Path]:
    """The runs that a run builds on, and whose search it took over."""
    try:
        manifest = read_run_state(folder / MANIFEST)
    except UserError:
        return set()
    noted = [each.get("shared") for name, each in manifest.get("stages", {}).items() if name in STAGES]
    named = [*manifest.get("sources", {}).values(), *noted]
    return {Path(os.path.normpath(folder.resolve() / each)) for each in named if isinstance(each, str)}
