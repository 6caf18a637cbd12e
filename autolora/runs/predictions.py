"""Where a run keeps its predictions, a file for each evaluation split: ``prediction_files(run, splits)[split]``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

LONGEST = 100  # characters of a file's name


def prediction_files(run: Path, splits: Sequence[str]) -> dict[str, Path]:
    """The file of each split: ``predictions/test.jsonl`` for test, test.csv or data/test, as long as no two are one.

    Where several would have one file, each has all of its split's name in it.

    Args:
        run: The run's folder.
        splits: The evaluation splits, all of them.
    """
    short = {split: _plain(Path(split).stem) for split in splits}
    shared = Counter(name.casefold() for name in short.values())
    found: dict[str, Path] = {}
    taken = {name.casefold() for name in short.values()}
    for split in splits:
        name = short[split]
        if shared[name.casefold()] > 1:
            name = whole = _plain(split)
            number = 1
            while name.casefold() in taken:
                number += 1
                name = f"{whole}-{number}"
            taken.add(name.casefold())
        found[split] = run / "predictions" / f"{name}.jsonl"
    return found


def _plain(name: str) -> str:
    """In characters that every file system takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[-LONGEST:] or "split"
