"""A checkpoint is one safetensors file: tensors, and a small JSON record in its header. No pickle.

It is written to a temporary name and renamed, so that a kill at any moment leaves the old one or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from autolora.errors import UserError
from autolora.files import parse_json, write_atomic


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, object]) -> None:
    """Write tensors and a record.

    Args:
        path: The file, which is whole or not there.
        tensors: By name, of any shape and on any device.
        record: JSON-able.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, save(contiguous, metadata={"record": json.dumps(record)}))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The inverse of `save_checkpoint`.

    Args:
        path: The file.

    Returns:
        The tensors by name, on the CPU, and the record.

    Raises:
        UserError: The file is no checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            record = parse_json(file.metadata()["record"])
            return {name: file.get_tensor(name) for name in file.keys()}, record  # noqa: SIM118 (not a dict)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not a checkpoint of autolora ({error}); remove it to start the stage anew"
        ) from error
