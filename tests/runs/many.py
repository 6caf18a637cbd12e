"""A folder with thousands of runs, all copies of one, made in a moment: ``many_runs(run, root, 2000)``."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILES = ("recipe.yaml", "status.json", "manifest.json", "search/ranks.json", "retrain/log.jsonl")
LONG_AGO = 1_700_000_000  # seconds since 1970: files that were last written then are settled


def many_runs(run: Path, root: Path, count: int) -> list[Path]:
    """Runs in ``<root>/tiny``, whose files are links to those of one run: what replaces one is of that run alone."""
    made = []
    for i in range(count):
        folder = root / "tiny" / f"run-{i:04}"
        for name in FILES:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(run / name, folder / name)
        made.append(settled(folder))
    return made


def settled(run: Path) -> Path:
    """The run, as if it had been written long ago."""
    for path in (*run.rglob("*"), run):
        os.utime(path, (LONG_AGO, LONG_AGO))
    return run


_counting: list[Counter[str]] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _counting and isinstance(arguments[0], str | os.PathLike):
        _counting[-1][os.fspath(arguments[0])] += 1


sys.addaudithook(_hook)  # which cannot be taken away again


@contextmanager
def opened_below(root: Path) -> Iterator[list[Path]]:
    """The files that are opened below a folder until the block ends, by their paths from there."""
    found: list[Path] = []
    _counting.append(Counter())
    try:
        yield found
    finally:
        for name in _counting.pop().elements():
            if Path(name).is_relative_to(root):
                found.append(Path(name).relative_to(root))
