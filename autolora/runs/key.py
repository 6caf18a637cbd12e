"""What tells the runs made here from those of others: a key of this user, and a mark that only its owner can make.

    mark = sign(data)                 # None where there is no key: the run then goes without
    is_signed(data, [mark])           # True

The key lies in the user's folder for state (`state_folder`), is made when it is first needed, and leaves the machine
with no run: a mark is an HMAC.
"""

from __future__ import annotations

import hmac
import os
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path

from autolora.errors import UserError
from autolora.files import sync
from autolora.runs.lock import Lock

STATE = "AUTOLORA_STATE"  # the variable that names another folder
LENGTH = 32  # bytes
_PATIENCE = 10.0  # seconds that another process may take to make the key


def state_folder() -> Path:
    """Where the key is: AUTOLORA_STATE, or ``autolora`` in the folder that the system has for state.

    Raises:
        UserError: The user has no such folder.
    """
    if given := os.environ.get(STATE):
        return Path(given)
    try:
        if sys.platform == "win32":
            local = os.environ.get("LOCALAPPDATA")
            return (Path(local) if local else Path.home() / "AppData" / "Local") / "autolora"
        state = Path(os.environ.get("XDG_STATE_HOME", ""))  # one that is not absolute is to be ignored
        return (state if state.is_absolute() else Path.home() / ".local" / "state") / "autolora"
    except RuntimeError as error:
        raise UserError(f"the user has no home folder ({error}); {STATE} names another") from error


def sign(data: bytes) -> str | None:
    """The mark of this user, in hexadecimal; None where there is no key.

    Args:
        data: What is marked.
    """
    try:
        return _mark(data)
    except UserError:
        return None


def is_signed(data: bytes, marks: Iterable[str]) -> bool:
    """Whether one of the marks is this user's.

    Args:
        data: What is marked.
        marks: Which may come from anywhere.
    """
    own = sign(data)
    return own is not None and any(hmac.compare_digest(own.encode(), each.encode(errors="replace")) for each in marks)


def key_fault() -> str:
    """Why nothing can be marked, and what to do about it; "" where it can."""
    try:
        _mark(b"")
    except UserError as error:
        return str(error)
    return ""


def _mark(data: bytes) -> str:
    path = state_folder() / "key"
    try:
        return hmac.new(_read(path) or _make(path), data, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            f"{path}, the key that marks runs as made here, can be neither read nor written "
            f"({error.strerror or error}); {STATE} names another folder"
        ) from error


def _read(path: Path) -> bytes | None:
    """The key; None where there is none yet."""
    try:
        with path.open("rb") as file:
            key = file.read(LENGTH + 1)
    except FileNotFoundError:
        return None
    if len(key) != LENGTH:
        raise UserError(
            f"{path}, the key that marks runs as made here, is damaged: it does not have {LENGTH} bytes; put it back, "
            "or remove it, and runs that were made until now count as made elsewhere"
        )
    return key


def _make(path: Path) -> bytes:
    """A new key, or the one that another process has just made: whoever reads it finds all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = Lock(path.with_name("key.lock"))
    try:
        lock.acquire(_PATIENCE)
    except UserError as error:
        raise OSError(str(error)) from error
    try:
        if (made := _read(path)) is not None:
            return made
        key, fresh = secrets.token_bytes(LENGTH), path.with_name("key.new")
        fresh.unlink(missing_ok=True)  # of a process that was killed here
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        sync(path.parent)
        return key
    finally:
        lock.release()
