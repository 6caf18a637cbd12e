"""Where a run lies and what is where in it: names of folders, which say nothing about what a run is in."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from autolora.errors import UserError
from autolora.recipe.method import label
from autolora.recipe.schema import Recipe

TUNING = "_tuning"  # in a recipe's folder, those of its runs that try a setting and are reported nowhere
RANKS = ("retrain/ranks.json", "search/ranks.json")  # the first that a run has counts
FILES = ("recipe.yaml", "status.json", "manifest.json")  # of every run
STAGES = ("search", "retrain", "eval")
TRACKING = "tracking"  # in a run's folder and in a comparison's, what trackers keep: copies of recipes among it
OWN = (*STAGES, "adapter", "predictions", "submission", TRACKING)  # folders that a run has, in which there are no runs
COMPARISONS = "comparisons"  # in a folder of runs, the tables of comparisons
TRIALS = "trials.json"  # in a comparison's, the list of its runs
REMOVED = ".removed"  # the end of the name that a run gets, with a dot in front, to be removed
MARKED = "removed"  # in a comparison's list of trials: when the run of one was removed
RUN_NAME = re.compile(r"[0-9]{8}-[0-9]{6}-.")  # how the name of a run's folder begins
LONGEST = 80  # characters of a method's label in the name of a folder


def is_run(path: Path) -> bool:
    """Whether a folder holds a run, of whatever state.

    Args:
        path: A folder, which need not be there.
    """
    return not lacking(path)


def lacking(path: Path) -> list[str]:
    """Names of the files that a folder lacks to hold a run.

    Args:
        path: A folder, which need not be there.
    """
    return [name for name in FILES[:2] if not (path / name).is_file()]  # the earliest runs have no manifest


def runs_inside(path: Path) -> str:
    """What a message about a folder that is no run adds: the newest of the runs in it; "" where there are none.

    Args:
        path: A folder, which need not be there.
    """
    runs = sorted(each for each in _children(path) if is_run(each))  # their names begin with the time
    return f"; runs are in it, the newest is {runs[-1]}" if runs else ""


def held_run(path: Path) -> bool:
    """Whether a folder holds a run, or did before it was damaged: it has something of a stage, and files beside it.

    Args:
        path: A folder, which need not be there.
    """
    if is_run(path):
        return True
    return any(os.path.lexists(path / name) for name in FILES) and any((path / name).is_dir() for name in STAGES)


def run_folders(root: Path, recipe_name: str | None = None) -> Iterator[Path]:
    """The folders of runs, whole or damaged, in no order.

    Args:
        root: Where runs are; at any depth below it.
        recipe_name: Only in ``<root>/<recipe_name>/``; None: everywhere, but not those that try a setting.
    """
    if recipe_name is None:
        return (path for path in _below(root) if not is_tuning(path, root))
    return (path for path in _children(root / recipe_name) if held_run(path))


def all_run_folders(root: Path) -> Iterator[Path]:
    """The folders of runs, whole or damaged, and of those that only try a setting, in no order.

    Args:
        root: Where runs are; at any depth below it.
    """
    return _below(root)


def _below(root: Path) -> Iterator[Path]:
    """Runs at any depth; what runs and comparisons have of their own is not looked into, and no link is followed."""
    for parent, names, files in os.walk(root):
        names[:] = [name for name in names if not is_removed(name)]
        if all(name in files for name in FILES[:2]) and is_run(path := Path(parent)):
            names[:] = [name for name in names if name not in OWN]
            yield path
        elif any(name in files for name in FILES) and held_run(path := Path(parent)):
            yield path
        elif TRACKING in names and (TRIALS in files or COMPARISONS in Path(parent).relative_to(root).parts):
            names.remove(TRACKING)


def _children(folder: Path) -> Iterator[Path]:
    """The folders in a folder."""
    with suppress(OSError):
        yield from (path for path in folder.iterdir() if not is_removed(path.name))


def is_removed(name: str) -> bool:
    """Whether a folder is what is left of a run that is being removed, or was when the process was killed.

    Args:
        name: Of the folder.
    """
    return name.startswith(".") and name.endswith(REMOVED)


def run_of(adapter: Path) -> Path | None:
    """The run that a folder is, or is the adapter of; None where it is neither.

    Args:
        adapter: A run's folder, or an adapter's.
    """
    if is_run(adapter):
        return adapter
    parent = adapter.absolute().parent
    return parent if adapter.name == "adapter" and is_run(parent) else None


def is_tuning(path: Path, root: Path) -> bool:
    """Whether a run was made to try a setting, and is reported nowhere.

    Args:
        path: Its folder.
        root: Below which it was found; what is above does not count.
    """
    return TUNING in path.relative_to(root).parts


def ranks_file(path: Path) -> Path:
    """Where the ranks of a run are that it was retrained at: found in training or after it, or before it.

    Args:
        path: The run's folder.
    """
    return next((path / name for name in RANKS if (path / name).exists()), path / RANKS[-1])


def new_folder(root: Path, recipe: Recipe, now: datetime, folder: str = "") -> Path:
    """A folder for a new run, which is made.

    Args:
        root: Where runs are; the folder is made in ``<root>/<recipe>/``.
        recipe: With its method and seed.
        now: When the run is made.
        folder: Of that one, where it belongs to a kind of its own, `TUNING` for instance.

    Raises:
        UserError: There are too many of this name.
    """
    return _unused(root / recipe.name / folder, f"{now:%Y%m%d-%H%M%S}-{_of(recipe)}")


def told_apart(folder: Path, recipe: Recipe) -> str:
    """What tells a run's folder from others of the same second, method and seed: ``-2``, or "" of the first.

    Args:
        folder: Made by `new_folder`.
        recipe: The run's.
    """
    found = re.fullmatch(rf"[0-9]{{8}}-[0-9]{{6}}-{re.escape(_of(recipe))}(-[0-9]+)", folder.name)
    return found[1] if found else ""


def _of(recipe: Recipe) -> str:
    """What follows the time in a run's name."""
    word = re.sub(r"[^A-Za-z0-9.]+", "-", label(recipe.method))[:LONGEST].rstrip("-.")
    return f"{'' if word == 'autolora' else word + '-'}{recipe.seed}"


def _unused(parent: Path, stem: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    for i in range(1, 1000):
        path = parent / (stem if i == 1 else f"{stem}-{i}")
        try:
            path.mkdir()
            return path
        except FileExistsError:
            continue
    raise UserError(f"{parent / stem} and 999 names like it exist already")
