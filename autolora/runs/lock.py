"""Who is at a run: a lock that the operating system holds, and lets go however the process ends.

    lock = Lock(run / ".lock")
    lock.acquire(patience=2.0)  # HeldError: somebody else has it, and who
    lock.release()

The lock is on an empty file, by `filelock` (flock, or its like on Windows): a killed process leaves the file and no
lock. Who holds it is written beside it, for messages only. Where a shared folder knows no locks, the file itself is
the lock, with host, process and the start of the process in it: one of this host whose process is gone, or began at
another time, is taken over; one of another host cannot be known to be gone, and the message says what to remove.

Both files are removed when the lock is let go. Readers take no lock, so a folder may be one that they cannot write to.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from autolora.errors import UserError
from autolora.files import write_json

if TYPE_CHECKING:
    from autolora.runs.store import Run

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE = 2.0  # seconds: a process that is told to end, or whose parent has ended, is gone by then
LOOK_EVERY = 0.5  # seconds between two tries
LONGEST = 4096  # bytes of the file that says who; what is longer was not written here
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}  # what a folder without locks answers


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, as they wrote it down.

    Args:
        host: Its name.
        pid: Of the process there.
        since: When it took the lock, in ISO 8601.
        started: When the process began, by its system, with the boot of the machine; "" where that cannot be known.
    """

    host: str
    pid: int
    since: str
    started: str = ""

    @classmethod
    def here(cls) -> Holder:
        """This process, now."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(socket.gethostname(), os.getpid(), now, _started(os.getpid()))

    @property
    def gone(self) -> bool:
        """Whether it is a process of this host that can be known to have ended: the number alone says nothing."""
        if self.host != socket.gethostname() or not self.started:
            return False
        return _started(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


class HeldError(UserError):
    """Somebody else has the lock.

    Args:
        message: What the user is told.
        holder: Who; None where nothing is written down.
        remedy: What else can be done than to wait; "" where there is nothing.
    """

    def __init__(self, message: str, holder: Holder | None, remedy: str = "") -> None:
        super().__init__(message)
        self.holder, self.remedy = holder, remedy


class Lock:
    """A lock on a path. Taken more than once by one object and thread, it is let go as often.

    Args:
        path: The file; its folder is there. Nothing else is kept in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: BaseFileLock | None = None  # made when it is first taken: most runs are only read

    @property
    def record(self) -> Path:
        """Where it is written who holds it."""
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def held(self) -> bool:
        """Whether this object holds it, in this thread."""
        return self._lock is not None and self._lock.is_locked

    def acquire(self, patience: float = 0.0) -> None:
        """Take it.

        Args:
            patience: How many seconds to wait for whoever has it.

        Raises:
            HeldError: Somebody else still has it.
            UserError: The file cannot be made.
        """
        if self.held:
            self._take(patience)
            return
        try:
            self._take(patience)
        except Timeout as error:
            holder = _read(self.record)
            said = f"{self.path.parent} is in use ({holder or 'another process'})"
            raise HeldError(said, holder, self._remedy(holder)) from error
        except OSError as error:
            raise UserError(f"{self.path} cannot be locked: {error.strerror or error}") from error
        try:
            write_json(self.record, asdict(Holder.here()))
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let it go; with the last time that it was taken, the files go, too."""
        lock = self._lock
        if lock is None:
            return
        if lock.lock_counter == 1:
            with suppress(OSError):
                self.record.unlink(missing_ok=True)
            if os.name == "posix" and not isinstance(lock, SoftFileLock):
                # While it is held: whoever waits with the removed file open sees that it has no name, and opens anew.
                # Elsewhere an open file cannot be removed, and filelock does it.
                with suppress(OSError):
                    self.path.unlink(missing_ok=True)
        lock.release()

    def holder(self) -> Holder | None:
        """Who else has it; None where nobody has, or this process. Takes nothing and leaves nothing."""
        if self.held or not (self.path.exists() or self._soft.exists()):
            return None
        said = _read(self.record)
        if said is not None and (said.host, said.pid) == (socket.gethostname(), os.getpid()):
            return None
        try:
            self._probe()
        except Timeout:
            return said or Holder("a host that is not known", 0, "a time that is not known")
        except OSError:  # a folder of somebody else's, which cannot be asked: what is written down has to do
            return None if said is None or said.gone else said
        return None

    def _probe(self) -> None:
        """Take it and let it go, as `_take` would: a file that stands for a lock says nothing where there are locks."""
        there = self.path.exists()
        lock: BaseFileLock = FileLock(self.path, fallback_to_soft=False)
        try:
            lock.acquire(timeout=0)
        except OSError as error:
            if isinstance(error, Timeout) or error.errno not in NO_LOCKS or not self._soft.exists():
                raise
            lock = SoftFileLock(self._soft)
            lock.acquire(timeout=0)
        finally:
            if not there:
                with suppress(OSError):
                    self.path.unlink(missing_ok=True)
        lock.release()

    @property
    def _soft(self) -> Path:
        """The file that is itself the lock, where a folder knows no locks."""
        return self.path.with_name(f"{self.path.name}.soft")

    def _take(self, patience: float) -> None:
        try:
            self._lock = self._lock or FileLock(self.path, fallback_to_soft=False)
            self._lock.acquire(timeout=patience, poll_interval=LOOK_EVERY)
        except OSError as error:
            if isinstance(error, Timeout) or error.errno not in NO_LOCKS:
                raise
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            self._lock = SoftFileLock(self._soft)
            self._lock.acquire(timeout=patience, poll_interval=LOOK_EVERY)

    def _remedy(self, holder: Holder | None) -> str:
        """A lock that is a file outlives its process, which cannot be looked for from another host."""
        if not isinstance(self._lock, SoftFileLock) or (holder is not None and holder.host == socket.gethostname()):
            return ""
        return f"; if that process is gone, remove {self._soft}"


def alone(function: Callable[Concatenate[Run, P], T]) -> Callable[Concatenate[Run, P], T]:
    """A function that has its run, the first argument, to itself for as long as it takes.

    Args:
        function: Called with a `autolora.runs.store.Run` first.
    """

    @wraps(function)
    def held(run: Run, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with run.hold():
            return function(run, *args, **kwargs)

    return held


def _read(path: Path) -> Holder | None:
    """Who is written down; None where nobody is, or it was not written here."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > LONGEST:
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
        host, pid, since, started = (found[name] for name in ("host", "pid", "since", "started"))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    words = (host, since, started)
    if type(pid) is not int or not all(isinstance(word, str) and word.isprintable() for word in words):
        return None
    return Holder(host, pid, since, started)


def _started(pid: int) -> str:
    """When a process began, in ticks since the boot with this name; "" where there is none, or no /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return f"{boot} {stat.rpartition(')')[2].split()[19]}"  # the 22nd field; the second, in brackets, is the name
