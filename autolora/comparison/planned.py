"""What a comparison is at, for whoever watches it: ``plan.json`` beside its tables, while it runs and after.

    run_all = Planned(folder, trials, jobs).follow(execute)   # the comparison's own process
    read_planned(folder)                                      # anybody

Each process that compares has a lock of its own beside the file, by which others see that it still is at it. Two that
compare the same recipes at a time both have their trials in the file. Reading takes neither torch nor a lock.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolora.errors import UserError
from autolora.files import read_json, write_json
from autolora.runs.lock import Lock

if TYPE_CHECKING:
    from autolora.comparison.plan import Trial
    from autolora.runs.store import Run

FILE = "plan.json"
_LOCKS = ".compare-*.lock"
_PATIENCE = 10.0  # seconds that another comparison may take to write the file


@dataclass(frozen=True)
class Cell:
    """A trial as the file has it.

    Args:
        recipe: Its name.
        method: The method's label.
        seed: The recipe's.
        tuning: Whether it tries a setting, and is reported nowhere.
        run: Its run by its path from the file; None where there is none yet.
        jobs: How many trials its comparison runs at a time.
        by: Whose it is: the lock's name.
        at: The point of a sweep that it is at; "" without one.
    """

    recipe: str
    method: str
    seed: int
    tuning: bool
    run: str | None
    jobs: int
    by: str
    at: str = ""

    @property
    def arm(self) -> str:
        """Method and point."""
        return f"{self.method} {self.at}".rstrip()


@dataclass(frozen=True)
class Listed:
    """A comparison, as it was planned.

    Args:
        cells: In the order that they are begun in.
        alive: Whether a process is at it.
    """

    cells: tuple[Cell, ...]
    alive: bool


class Planned:
    """The plan of one comparison, kept up to date.

    Args:
        folder: Where its tables go.
        trials: What is known of them; those at rates that are yet to be chosen among them.
        jobs: How many run at a time.
    """

    def __init__(self, folder: Path, trials: Sequence[Trial], jobs: int) -> None:
        self.folder, self.jobs = folder, jobs
        self._by = f".compare-{uuid.uuid4().hex[:12]}.lock"
        self._trials = {_key(trial): trial for trial in trials}
        self._runs = {key: trial.run for key, trial in self._trials.items()}

    def follow(self, run_all: Callable[..., list[Run]]) -> Callable[[Sequence[Trial]], list[Run]]:
        """What runs trials, told of in the file.

        Args:
            run_all: Called with trials; it takes ``on_begin`` and ``on_end``, as `autolora.comparison.execute.execute`.
        """
        given: Mapping[str, Any] = getattr(run_all, "keywords", {})

        def begin(trial: Trial, run: Run) -> None:
            self._note(trial, run)
            given.get("on_begin", _nothing)(trial, run)

        def end(trial: Trial, run: Run, seconds: float) -> None:
            self._note(trial, run)
            given.get("on_end", _nothing)(trial, run, seconds)

        def followed(trials: Sequence[Trial]) -> list[Run]:
            self._take(trials)
            with self._held():
                self._write()
                return run_all(trials, on_begin=begin, on_end=end)

        return followed

    def _take(self, trials: Sequence[Trial]) -> None:
        """The trials that are run now, in place of those that could not be known."""
        decided = any(not trial.tuning for trial in trials)
        kept = {key: trial for key, trial in self._trials.items() if not (trial.undecided and decided)}
        self._trials = {**kept, **{_key(trial): trial for trial in trials}}
        self._runs = {key: self._runs.get(key) or trial.run for key, trial in self._trials.items()}

    def _note(self, trial: Trial, run: Run) -> None:
        if self._runs.get(_key(trial)) is not run:
            self._runs[_key(trial)] = run
            self._write()

    @contextmanager
    def _held(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(self.folder / self._by)
        lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _write(self) -> None:
        """What others are at stays; a file that cannot be written is only missed by those who watch."""
        lock = Lock(self.folder / ".plan.lock")
        with suppress(UserError, OSError):
            lock.acquire(_PATIENCE)
            try:
                others = [cell for cell in _cells(self.folder) if cell.by != self._by and _alive(self.folder / cell.by)]
                write_json(
                    self.folder / FILE, {"format": 1, "cells": [asdict(each) for each in (*others, *self._own())]}
                )
            finally:
                lock.release()

    def _own(self) -> Iterator[Cell]:
        here = self.folder.resolve()
        for key, trial in self._trials.items():
            run = self._runs[key]
            path = None if run is None else Path(os.path.relpath(run.path.resolve(), here)).as_posix()
            recipe = trial.recipe
            yield Cell(recipe.name, trial.method, recipe.seed, trial.tuning, path, self.jobs, self._by, trial.point)


def read_planned(folder: Path) -> Listed | None:
    """A comparison's plan; None where it has none, as those of earlier versions have.

    Args:
        folder: The comparison's.
    """
    cells = _cells(folder)
    locks = {
        path.with_name(path.name.removesuffix(".soft"))
        for path in (*folder.glob(_LOCKS), *folder.glob(f"{_LOCKS}.soft"))
    }
    alive = any(_alive(path) for path in locks)
    return Listed(tuple(cells), alive) if cells or alive else None


def _alive(path: Path) -> bool:
    """Whether the process whose lock it is is there."""
    lock = Lock(path)
    return lock.held or lock.holder() is not None


def _cells(folder: Path) -> list[Cell]:
    """Those in the file; none where it is not one, and without what is no cell."""
    try:
        found = read_json(folder / FILE)
    except UserError:
        return []
    listed = found.get("cells") if isinstance(found, dict) else None
    cells = []
    for each in listed if isinstance(listed, list) else []:
        with suppress(TypeError):
            cell = Cell(**each)
            if _right(cell):
                cells.append(cell)
    return cells


def _right(cell: Cell) -> bool:
    texts = (cell.recipe, cell.method, cell.by, cell.at)
    numbers = (cell.seed, cell.jobs)
    return (
        all(isinstance(each, str) for each in texts)
        and all(type(each) is int for each in numbers)
        and isinstance(cell.run, str | None)
        and Path(cell.by).name == cell.by
        and cell.jobs > 0
    )


def _key(trial: Trial) -> str:
    from autolora.comparison.keys import trial_key

    return f"{'tuning ' if trial.tuning else ''}{trial_key(trial.recipe)}"


def _nothing(*arguments: object) -> None:
    """Where nobody wants to be told."""
