"""Files that are whole or not there.

``write_atomic(path, data)`` and ``write_json(path, value)``; folders likewise: ``with replace_folder(path) as fresh``.

The data goes to a temporary file in the same folder, reaches the disk, and then takes the place of the old file in one
step. A reader, or a run that is killed, sees the old content or the new one, never half of it. What a killed process
leaves of such a step is removed by ``remove_leftovers(folder)``.

A state is a JSON object that says its own SHA-256 (`write_state`, `read_state`): for what changes too often to be
listed elsewhere.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import Any, BinaryIO

from autolora.errors import UserError

DIGEST = "sha256"  # the entry of a state
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")
_NEW, _OLD = ".new", ".old"


def write_atomic(path: Path, data: str | bytes | Iterator[str]) -> None:
    """Write a file in one step, making its folder if there is none.

    Args:
        path: The file, which is replaced.
        data: Bytes, or text that is written as UTF-8, newlines as they are; one after the other, the pieces of a text
            that is too large to be held.
    """
    with writing(path) as file:
        for piece in (data,) if isinstance(data, str | bytes) else data:
            file.write(piece.encode("utf-8") if isinstance(piece, str) else piece)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes its place when the block ends well, and goes when not.

    Args:
        path: The file, which is replaced; its folder is made if there is none.

    Raises:
        UserError: A device or a pipe is there, which would be gone then.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(f"{path} is no file, and would be replaced by one; name another place")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


@contextmanager
def replace_folder(path: Path, keep: Collection[str] = ()) -> Iterator[Path]:
    """A new folder beside `path`, which takes its place when the block that fills it ends well, and goes when not.

    Args:
        path: The folder, which is replaced.
        keep: Names of files of it that are in the new one, too, as they are; what the block makes of them is replaced.
    """
    fresh, old = path.with_name(path.name + _NEW), path.with_name(path.name + _OLD)
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
        for name in keep:
            (fresh / name).unlink(missing_ok=True)
            if (path / name).is_file():
                shutil.copy2(path / name, fresh / name)
        for part in sorted(fresh.rglob("*"), reverse=True):
            sync(part)
        sync(fresh)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if path.exists():
        path.rename(old)
    fresh.rename(path)
    sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Make a file's content, or a folder's names, reach the disk; a system that cannot do that to one goes without.

    Args:
        path: A file or folder.
    """
    try:
        opened = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(opened)
    except OSError as error:  # Windows syncs what is open for writing only, and no folder
        if error.errno in (errno.EIO, errno.ENOSPC):
            raise
    finally:
        os.close(opened)


def is_leftover(name: str) -> bool:
    """Whether a file or folder is one that is about to take another's place, or was replaced.

    Args:
        name: Its name, without folders.
    """
    return _TEMPORARY.fullmatch(name) is not None or name.endswith((_NEW, _OLD))


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process has left of files and folders that it was about to write; nothing whole is lost.

    Args:
        folder: Where no other process writes, and everything below it.
    """
    for path in sorted(folder.rglob("*")):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)
        elif path.suffix == _OLD and path.is_dir() and not (whole := path.with_suffix("")).exists():
            path.rename(whole)  # it was killed between the two
        elif path.suffix in (_NEW, _OLD) and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def is_path(name: str) -> bool:
    """Whether a model's name is a path by its form, which no name of the hub has.

    Args:
        name: As a recipe or an adapter has it; one with a drive letter counts on every system.
    """
    return name.startswith((".", "/", "~")) or PureWindowsPath(name).is_absolute()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Args:
        path: The file.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, keys in their order.

    JSON has no NaN and no infinity. What is undefined is None; a number that should be one is no file's content.

    Args:
        path: The file, which is replaced.
        value: JSON-able, where tuples and mappings of any kind are lists and objects.

    Raises:
        ValueError: There is NaN or an infinity in it; nothing is written.
    """
    write_atomic(path, json_text(value) + "\n")


def json_text(value: object) -> str:
    """A value as indented JSON, as `write_json` writes it.

    Args:
        value: See `write_json`.

    Raises:
        ValueError: There is NaN or an infinity in it; the message says where.
    """
    return json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Args:
        path: The file.

    Raises:
        UserError: It cannot be read, or is no JSON.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def write_state(path: Path, value: Mapping[str, object]) -> None:
    """Write an object as indented JSON that ends with the SHA-256 of all that is before it.

    Args:
        path: The file, which is replaced.
        value: JSON-able, without an entry "sha256".
    """
    content = json.loads(json_text(value))  # as whoever reads it has it
    write_json(path, {**content, DIGEST: _digest(content)})


def read_state(path: Path, since: int) -> dict[str, Any]:
    """The object in a file that `write_state` wrote.

    Args:
        path: The file.
        since: The first format (its entry "format", or 1) that has a SHA-256; what earlier versions wrote has none.

    Raises:
        UserError: It cannot be read, is no JSON object, or is not what was written.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    number, said = content.get("format", 1), content.pop(DIGEST, None)
    if said is None and isinstance(number, int) and number < since:
        return content
    if said is None:
        raise UserError(f"{path} is not what was written: it does not say its SHA-256")
    if said != (found := _digest(content)):
        raise UserError(f"{path} is not what was written: its SHA-256 is {found[:12]}, and should be {str(said)[:12]}")
    return content


def _digest(value: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()


def write_records(path: Path, records: Iterable[Mapping[str, object]]) -> None:
    """Write records as JSON Lines, each with its "index" in front.

    Args:
        path: The file, which is replaced.
        records: JSON-able.

    Raises:
        ValueError: There is NaN or an infinity in one; nothing is written.
    """
    numbered = ({"index": i, **record} for i, record in enumerate(records))
    lines = [json.dumps(_plain(record), ensure_ascii=False, allow_nan=False) + "\n" for record in numbered]
    write_atomic(path, "".join(lines))


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON Lines file.

    Args:
        path: The file.

    Raises:
        UserError: It cannot be read, or is no JSON Lines.
    """
    try:
        return [_record(parse_json(line)) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says, which may come from anywhere.

    Args:
        text: Bytes are UTF-8.

    Raises:
        ValueError: It is no JSON, or one that nests more deeply than anything that is meant to be read.
    """
    try:
        return json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def _record(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"a line is no JSON object: {str(value)[:80]}")
    return value


def _plain(value: object, where: str = "") -> object:
    """Lists and dicts of what is any kind of them; no float that JSON has not."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where.lstrip('.') or 'the value'} is {value}, which JSON has not")
    if isinstance(value, Mapping):
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    return value
