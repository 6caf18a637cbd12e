"""A run's folder that is carried to another machine's disk and back: what has changed on one is written on the other.

    sender = Sender(there)             # where the run goes on
    parcel = sender.parcel()           # what is new in the folder since the last one, None for nothing
    if parcel:
        unpack(parcel, here)

What a parcel makes of a folder is what a process that was killed might have left: files are taken at a moment at which
no other changes, but for metric logs, which are taken last. They are cut back to the checkpoint when a run goes on, and
may be ahead of it, never behind. Files are written in the order in which they last changed, each whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from autolora.errors import RunError
from autolora.files import is_leftover, write_atomic

LOCK = ".lock"  # a run's, and .lock.json: of the machine that they are on
LOG = "log.jsonl"  # the one file that grows in its place
TRIES = 5  # at a moment of rest


@dataclass(frozen=True)
class Parcel:
    """What has changed in a folder.

    Args:
        files: What is in them, by their paths from it, in the order in which they last changed, logs in front.
        gone: Those that are no longer there.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.files or self.gone)


# When a file was changed, its size, and its number on the disk, which is another one for each that replaces it.
Stamp = tuple[int, int, int]


class Sender:
    """A folder, and what of it has been sent.

    Args:
        folder: It.
        known: Whether all that is in it now is known where parcels go.
    """

    def __init__(self, folder: Path, *, known: bool = False) -> None:
        self.folder = folder
        self._sent: dict[str, Stamp] = stamps(folder) if known else {}

    def parcel(self) -> Parcel | None:
        """What has changed since the last one; None for nothing, or where the folder would not be at rest."""
        for _ in range(TRIES):
            before = stamps(self.folder)
            changed = sorted((n for n in before if before[n] != self._sent.get(n)), key=lambda name: before[name][0])
            try:
                files = {name: self._read(name) for name in changed if not _is_log(name)}
                if _but_logs(stamps(self.folder)) != _but_logs(before):
                    continue
                logs = {name: self._read(name) for name in changed if _is_log(name)}
            except FileNotFoundError:
                continue
            gone = frozenset(self._sent.keys() - before.keys())
            self._sent = before
            return Parcel({**logs, **files}, gone) or None
        return None

    def _read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


def whole(folder: Path) -> Parcel:
    """All of a folder in which nothing changes.

    Args:
        folder: A run's that nobody is at.

    Raises:
        RunError: Something does change.
    """
    found = Sender(folder).parcel()
    if found is None and stamps(folder):
        raise RunError(f"{folder} changes while it is read: another process is at it")
    return found or Parcel()


def unpack(parcel: Parcel, folder: Path) -> None:
    """Make a folder what it is where the parcel comes from.

    Args:
        parcel: From another machine.
        folder: What becomes of its like there; made where there is none.

    Raises:
        RunError: The parcel names what does not lie in the folder; nothing is written.
        OSError: A file cannot be written; those before it are.
    """
    if outside := [name for name in (*parcel.files, *parcel.gone) if not _inside(name)]:
        raise RunError(f"what was brought back for {folder} leads out of it: {outside[0]!r}; nothing was written")
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in parcel.files.items():
        write_atomic(folder / name, data)
    for name in parcel.gone:
        (folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # which is not empty
            (folder / name).parent.rmdir()


def stamps(folder: Path) -> dict[str, Stamp]:
    """What tells each file of a folder from what it was before; locks, links and what is half written are left out.

    Args:
        folder: A run's.
    """
    return {path.relative_to(folder).as_posix(): stamp for path, stamp in _files(folder)}


def _files(folder: Path) -> Iterator[tuple[Path, Stamp]]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if is_leftover(entry.name) or entry.name.startswith(LOCK):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    found = Path(entry.path).stat()
                    yield Path(entry.path), (found.st_mtime_ns, found.st_size, found.st_ino)


def _but_logs(found: Mapping[str, Stamp]) -> dict[str, Stamp]:
    return {name: stamp for name, stamp in found.items() if not _is_log(name)}


def _is_log(name: str) -> bool:
    return PurePosixPath(name).name == LOG


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and bool(path.parts) and "\\" not in name
