"""Files that are whole or not there.

``write_atomic(path, data)`` and ``write_json(path, value)``; folders likewise: ``with replace_folder(path) as fresh``.

The data goes to a temporary file in the same folder, reaches the disk, and then takes the place of the old file in one
step. A reader, or a run that is killed, sees the old content or the new one, never half of it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autolora.errors import UserError


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write a file in one step, making its folder if there is none.

    Args:
        path: The file, which is replaced.
        data: Bytes, or text that is written as UTF-8, newlines as they are.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data.encode("utf-8") if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, which takes its place when the block that fills it ends without an error.

    Args:
        path: The folder, which is replaced.
    """
    fresh, old = path.with_name(path.name + ".new"), path.with_name(path.name + ".old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    yield fresh
    if path.exists():
        path.rename(old)
    fresh.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Args:
        path: The file.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, keys in their order. JSON has no NaN and no infinity: they become null.

    Args:
        path: The file, which is replaced.
        value: JSON-able, where tuples and mappings of any kind are lists and objects.
    """
    write_atomic(path, json_text(value) + "\n")


def json_text(value: object) -> str:
    """A value as indented JSON, as `write_json` writes it.

    Args:
        value: See `write_json`.
    """
    return json.dumps(_without_nan(value), indent=2, ensure_ascii=False, allow_nan=False)


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


def write_records(path: Path, records: Iterable[Mapping[str, object]]) -> None:
    """Write records as JSON Lines, each with its "index" in front.

    Args:
        path: The file, which is replaced.
        records: JSON-able.
    """
    lines = [json.dumps({"index": i, **record}, ensure_ascii=False) + "\n" for i, record in enumerate(records)]
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


def _without_nan(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
