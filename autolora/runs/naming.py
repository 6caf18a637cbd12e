"""Which run is meant: a folder, a run's path below the folder of the runs, its short name, or the end of its path.

``short_names(paths)`` gives each run a few characters that no other begins with, which stay as long as its path does:
the beginning of a hash of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from autolora.errors import UserError
from autolora.runs.folders import all_run_folders, held_run, runs_inside

SHORTEST = 5  # characters of a short name
_SHOWN = 5  # runs that a message lists


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """A short name for each run.

    Args:
        paths: Of all runs, from the folder of the runs.
    """
    hashed = {path: _hash(path) for path in paths}
    length = SHORTEST
    while len({each[:length] for each in hashed.values()}) < len(hashed):
        length += 1
    return {path: each[:length] for path, each in hashed.items()}


def find(word: str, root: Path) -> Path:
    """The folder of the run that a word means.

    Args:
        word: See above.
        root: Where runs are.

    Raises:
        UserError: It means no run, or several.
    """
    for path in (Path(word), root / word):
        if held_run(path):
            return path
    if Path(word).is_dir():
        more = runs_inside(Path(word))
        raise UserError(f"{word} is no run; name the folder of one, with its recipe.yaml and status.json{more}")
    paths = [each.relative_to(root).as_posix() for each in all_run_folders(root)]
    short = len(word) >= SHORTEST
    found = [path for path in paths if path.endswith(f"/{word.strip('/')}") or (short and _hash(path).startswith(word))]
    if len(found) == 1:
        return root / found[0]
    if not found:
        raise UserError(f"there is no run {word!r} below {root}; list them with: autolora runs --runs {root}")
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    raise UserError(f"{word!r} means {len(found)} runs; name one: {', '.join(sorted(found)[:_SHOWN])}{more}")


def _hash(path: str) -> str:
    return hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()
