"""A checkpoint is one safetensors file: tensors, and a small JSON record in its header. No pickle.

It is written to a temporary name and renamed, so that a kill at any moment leaves the old one or the new one. Beside
the record are the SHA-256 of the tensors, and one of that and the record, by which the record can be trusted alone.
Where in its run the file belongs is said, too: one in another's place is refused. A value that is not finite is neither
written nor read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from autolora.errors import RunError, UserError
from autolora.files import parse_json, write_atomic
from autolora.training.finite import not_finite

# In the header: the record, the tensors' SHA-256, that of all of it and the file's place, in one text, as safetensors
# keeps no order; earlier versions say no place, or the record alone.
_CHECKED, _RECORD = "checked", "record"
_NONE = (None, None)


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, object]) -> None:
    """Write tensors and a record.

    Args:
        path: The file, which is whole or not there.
        tensors: By name, of any shape and on any device.
        record: JSON-able.

    Raises:
        RunError: A tensor holds a value that is not finite; nothing is written.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if (name := not_finite(contiguous)) is not None:
        raise RunError(f"{path} is not written: {name} holds values that are not finite, the training has diverged")
    text, hashed = json.dumps(record, allow_nan=False), _hash_of(contiguous)
    place = _place(path)
    checked = json.dumps([text, hashed, _hash_with(text, hashed, place), place])
    write_atomic(path, save(contiguous, metadata={_CHECKED: checked}))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The inverse of `save_checkpoint`.

    Args:
        path: The file.

    Returns:
        The tensors by name, on the CPU, and the record.

    Raises:
        UserError: The file is no checkpoint, not what was written, or one with values that are not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            record, hashed = _read_header(path, file.metadata() or {})
            # Copied: what is still mapped from the file would keep it from being replaced (Windows).
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    if hashed is not None and _hash_of(tensors) != hashed:
        raise _changed(path, "tensors")
    if (name := not_finite(tensors)) is not None:
        raise UserError(
            f"{path} was written by a training that had diverged: {name} holds values that are not finite; remove it "
            "to start the stage anew, and lower the learning rate"
        )
    return tensors, record


def read_record(path: Path) -> dict[str, Any]:
    """The record of a file that `save_checkpoint` wrote, without its tensors.

    Args:
        path: The file.

    Raises:
        UserError: The file is no checkpoint, or its record is not what was written.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return _read_header(path, file.metadata() or {})[0]
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _read_header(path: Path, header: Mapping[str, str]) -> tuple[dict[str, Any], str | None]:
    """The record, and what the tensors' SHA-256 should be; None where that is not said."""
    try:
        text, hashed, whole, *places = parse_json(header[_CHECKED]) if _CHECKED in header else (header[_RECORD], *_NONE)
        if hashed is not None and _hash_with(text, hashed, *places) != whole:
            raise _changed(path, "record")
        if places and places != [_place(path)]:
            raise UserError(
                f"{path} is in another file's place: it was written as {places[0]}; put the right one back, or remove "
                "it to start the stage anew"
            )
        record = parse_json(text)
        if not isinstance(record, dict):
            raise TypeError("its record is no object")
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error
    return record, hashed


def _hash_of(tensors: Mapping[str, Tensor]) -> str:
    """Of names, types, shapes and values."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _hash_with(record: str, tensors: str, *place: str) -> str:
    return hashlib.sha256(" ".join([tensors, *place, record]).encode("utf-8", "surrogatepass")).hexdigest()


def _place(path: Path) -> str:
    """Where in its run a file is: its name and its folder's."""
    return f"{path.absolute().parent.name}/{path.name}"


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is not a checkpoint of autolora ({error}); remove it to start the stage anew")


def _changed(path: Path, part: str) -> UserError:
    return UserError(
        f"{path} is not what was written: the SHA-256 of its {part} is another than it says; put it back, or remove "
        "it to start the stage anew"
    )
