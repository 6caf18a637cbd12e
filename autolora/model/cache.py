"""A folder that is made once on a machine, and found again: ``folder = cached(root, key, make)``.

It is named by what determines its content. It is made beside its place, under a lock, and takes it in one step; its
`ENTRY` says the SHA-256 of every file. What is not whole, or not as it was written, is made anew. Nothing that lies
here is run or unpickled, and the root is the user's alone: one that others may enter is not trusted.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from autolora.errors import UserError
from autolora.files import file_hash, read_state, remove_leftovers, replace_folder, write_state

ENTRY = "entry.json"
LOCK = "lock"
LIMIT = 8 * 2**30  # bytes of all folders together; those that were not used for longest go first
RECENT = 3600.0  # seconds: what was used since then may be being read, and stays
PATIENCE = 600.0  # seconds that another process may take to make a folder
LOOK_EVERY = 0.5  # seconds between two tries

Marks = tuple[tuple[str, int, int], ...]
_checked: dict[Path, Marks] = {}  # folders whose files this process has read, and how they were then


def cached(root: Path, key: Mapping[str, str], make: Callable[[Path], None], *, size: int = 0) -> Path:
    """The folder that `make` fills, which it does where there is none yet.

    Args:
        root: Where such folders lie; made if it is not there.
        key: What determines the content: versions, and hashes of what it is made from.
        make: Fills the empty folder that it is given.
        size: Bytes that the folder will take, about.

    Raises:
        OSError: It cannot be made there, or the root is not to be trusted; the message says why.
    """
    folder = root / hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()[:32]
    if root.exists():
        _trust(root)
    if not is_whole(folder, key):
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _trust(root)
        with FileLock(root / LOCK, fallback_to_soft=False).acquire(timeout=PATIENCE, poll_interval=LOOK_EVERY):
            if not is_whole(folder, key):  # nobody else made it meanwhile
                remove_leftovers(root)
                _make_room(root, size)
                with replace_folder(folder) as fresh:
                    make(fresh)
                    files = {path.name: file_hash(path) for path in sorted(fresh.iterdir())}
                    write_state(fresh / ENTRY, {"key": dict(key), "files": files})
                _bound(root, folder)
    with suppress(OSError):  # a folder that is only read
        os.utime(folder)
    return folder


def is_whole(folder: Path, key: Mapping[str, str]) -> bool:
    """Whether a folder is as it was written, for this key; its files are read once in a process.

    Args:
        folder: Which need not be there.
        key: See `cached`.
    """
    try:
        marks = _marks(folder)
        if _checked.get(folder) == marks:
            return True
        entry = read_state(folder / ENTRY, since=0)
        files = entry["files"]
        if entry["key"] != dict(key) or {name for name, *_ in marks} != {ENTRY, *files}:
            return False
        if any(file_hash(folder / name) != found for name, found in files.items()):
            return False
    except (OSError, UserError, LookupError, TypeError):
        return False
    _checked[folder] = marks
    return True


def fault(root: Path) -> str:
    """Why a root is not to be trusted; "" where it is. It is there.

    Args:
        root: See `cached`.
    """
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return f"{root} is no folder"
    if sys.platform == "win32":  # folders below the user's own are the user's
        return ""
    if found.st_uid != os.geteuid():
        return f"{root} is somebody else's"
    if found.st_mode & 0o077:
        return f"{root} can be entered by others, who could have changed it; remove it, or: chmod 700 {root}"
    return ""


def total(root: Path) -> int:
    """Bytes of everything below a root.

    Args:
        root: See `cached`.
    """
    return sum(map(_size, _folders(root)))


def _trust(root: Path) -> None:
    if why := fault(root):
        raise PermissionError(errno.EPERM, why)


def _marks(folder: Path) -> Marks:
    """Name, size and time of each file; folders, links and the like are nothing that was written here."""
    found = []
    for path in sorted(folder.iterdir()):
        of = path.lstat()
        if not stat.S_ISREG(of.st_mode):
            raise OSError(errno.EINVAL, f"{path} is no file")
        found.append((path.name, of.st_size, of.st_mtime_ns))
    return tuple(found)


def _folders(root: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        yield from (path for path in sorted(root.iterdir()) if path.is_dir() and not path.is_symlink())


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*"))


def _make_room(root: Path, size: int) -> None:
    free = shutil.disk_usage(root).free
    if size > min(free, LIMIT):
        gib = 2**30
        raise OSError(
            errno.ENOSPC,
            f"{root} has no room for {size / gib:.1f} GiB: {free / gib:.1f} GiB of its disk are free, and it may "
            f"hold {LIMIT / gib:.0f}",
        )


def _bound(root: Path, made: Path) -> None:
    """Remove what was not used for longest, until the rest is within the limit."""
    now, kept = time.time(), total(made.parent)
    for folder in sorted(_folders(root), key=lambda path: path.stat().st_mtime):
        if kept <= LIMIT:
            return
        if folder != made and now - folder.stat().st_mtime > RECENT:
            kept -= _size(folder)
            shutil.rmtree(folder, ignore_errors=True)
