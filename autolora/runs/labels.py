"""The names of the classes that a run was trained with: ``labels.json``, by id.

They are settled once, at training; what comes later reads them here instead of working them out anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autolora.errors import UserError
from autolora.files import read_json, write_json
from autolora.runs.inventory import verified
from autolora.runs.seal import listing

FILE = "labels.json"


def read_labels(run: Path) -> list[str] | None:
    """The names, by id; None where the run has none, or none yet.

    Args:
        run: The run's folder.

    Raises:
        UserError: The file is damaged.
    """
    path = verified(run, FILE)
    if not path.exists():
        return None
    content = read_json(path)
    names = content.get("names") if isinstance(content, dict) else None
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path} holds no names of classes; remove it, and train anew with: autolora retrain {run}")
    return names


def write_labels(run: Path, names: Sequence[str]) -> None:
    """Keep the names, by id.

    Args:
        run: The run's folder.
        names: In the order of the model's outputs.
    """
    with listing(run, FILE):
        write_json(run / FILE, {"names": list(names)})
