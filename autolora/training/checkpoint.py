"""A checkpoint is one safetensors file: tensors, and a small JSON record in its header. No pickle.

It is written to a temporary name and renamed, so that a kill at any moment leaves the old one or the new one. A value
that is not finite is neither written nor read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from autolora.errors import RunError, UserError
from autolora.files import write_atomic
from autolora.training.finite import not_finite


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
    write_atomic(path, save(contiguous, metadata={"record": json.dumps(record, allow_nan=False)}))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The inverse of `save_checkpoint`.

    Args:
        path: The file.

    Returns:
        The tensors by name, on the CPU, and the record.

    Raises:
        UserError: The file is no checkpoint, or one with values that are not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads(file.metadata()["record"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise UserError(
            f"{path} is not a checkpoint of autolora ({error}); remove it to start the stage anew"
        ) from error
    if (name := not_finite(tensors)) is not None:
        raise UserError(
            f"{path} was written by a training that had diverged: {name} holds values that are not finite; remove it "
            "to start the stage anew, and lower the learning rate"
        )
    return tensors, record
