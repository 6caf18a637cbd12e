"""The runs below a folder, each in a line, from an index that spares reading them: ``summaries(root)``.

The folders are the truth. The index is a cache, ``<root>/.runs.index``: for each run its summary, and the node, time
and size of its files when it was read (`autolora.runs.summary.seen`). Every call walks the folders and asks for these;
what is new or another is read, what is gone is left out, and the index is written anew if it has changed. A damaged
one, or one of another version, is as good as none. What was written just before it was read is not kept, as a file
system may give two contents one time; nor is what cannot be read, whose reason may lie in any file.

It is one file that is replaced in one step, and not a database: that is as safe on a network's file system, where
SQLite's write-ahead log is not, needs no lock, and of two writers one wins, with nothing lost but what is then read
again. Where it cannot be written, all goes on without.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import autolora
from autolora.files import parse_json, write_atomic
from autolora.runs.folders import all_run_folders, is_tuning, run_folders
from autolora.runs.summary import SETTLED, UNREADABLE, Seen, Summary, seen, state_now, summarise

NAME = ".runs.index"
FORMAT = 1
COARSE = 2 * 10**9  # nanoseconds: a file system's times may be as coarse as that
_TYPES: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("path", "state", "recipe", "method", "created"), (str,)),
    **dict.fromkeys(("stage", "metric", "reason"), (str, type(None))),
    **dict.fromkeys(("seed", "parameters"), (int, type(None))),
    **dict.fromkeys(("score", "seconds"), (int, float, type(None))),
    **dict.fromkeys(("higher_is_better", "tuning"), (bool,)),
    "size": (int,),
    "stages": (dict,),
}


@dataclass(frozen=True)
class _Kept:
    """What the index has of a run."""

    seen: Seen
    summary: Summary


def summaries(root: Path, recipe_name: str | None = None) -> list[Summary]:
    """All runs below a folder, oldest first, those that only try a setting among them.

    Args:
        root: Where runs are.
        recipe_name: Only those in ``<root>/<recipe_name>/``; None: at any depth.
    """
    before = _read(root / NAME)
    found = all_run_folders(root) if recipe_name is None else run_folders(root, recipe_name)
    names = ((folder, folder.relative_to(root).as_posix()) for folder in found)
    after = {path: _look(root, folder, path, before.get(path)) for folder, path in names}
    kept = {path: each for path, each in after.items() if each.seen}
    if recipe_name is not None:
        front = f"{recipe_name}/"
        kept |= {path: each for path, each in before.items() if path.rpartition("/")[0] != front[:-1]}
    if kept != before:
        with suppress(OSError):  # a folder of somebody else's
            _write(root / NAME, kept)
    now = [_now(root, each.summary) for each in after.values()]
    return sorted(now, key=lambda each: (each.created, each.path))


def _now(root: Path, summary: Summary) -> Summary:
    if summary.state in SETTLED:
        return summary
    return replace(summary, state=state_now(root / summary.path, summary.state))


def _look(root: Path, folder: Path, path: str, before: _Kept | None) -> _Kept:
    """A run as it is now; nothing is seen of one that has to be read again the next time."""
    began = time.time_ns()
    now = seen(folder)
    if before is not None and before.seen == now:
        return before
    summary = summarise(folder, path, tuning=is_tuning(folder, root))
    settled = summary.state != UNREADABLE and max(changed for _, changed, _ in now) + COARSE < began
    return _Kept(now if settled else (), summary)


def _read(path: Path) -> dict[str, _Kept]:
    """What an index holds; nothing where there is none, or where it is not what this version wrote."""
    try:
        head, _, body = path.read_bytes().partition(b"\n")
        if parse_json(head) != _head(body):
            return {}
        return {each.summary.path: each for each in map(_kept, body.splitlines())}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _kept(line: bytes) -> _Kept:
    """Raises what is wrong with a line."""
    record = parse_json(line)
    was = tuple((int(node), int(changed), int(size)) for node, changed, size in record["seen"])
    said = record["summary"]
    if said.keys() != _TYPES.keys() or not all(type(value) in _TYPES[name] for name, value in said.items()):
        raise ValueError("it is no summary")
    return _Kept(was, Summary(**said))


def _write(path: Path, kept: Mapping[str, _Kept]) -> None:
    lines = (
        json.dumps({"seen": each.seen, "summary": asdict(each.summary)}, ensure_ascii=True) for each in _by_path(kept)
    )
    body = "".join(f"{line}\n" for line in lines).encode()
    write_atomic(path, json.dumps(_head(body)).encode() + b"\n" + body)


def _by_path(kept: Mapping[str, _Kept]) -> Iterable[_Kept]:
    return (kept[path] for path in sorted(kept))


def _head(body: bytes) -> dict[str, Any]:
    """What the first line says, which must be so: another version may have other summaries of the same files."""
    return {"format": FORMAT, "autolora": autolora.__version__, "sha256": hashlib.sha256(body).hexdigest()}


assert _TYPES.keys() == {field.name for field in fields(Summary)}
