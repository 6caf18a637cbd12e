"""The safetensors files of a model folder, one or several with an index, and what their headers say."""

from __future__ import annotations

from pathlib import Path

from autolora.errors import UserError
from autolora.files import parse_json
from autolora.model.tensors import header

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def checkpoint_shapes(folder: Path) -> dict[str, list[int]]:
    """Shape of every parameter, from the headers of the safetensors files; empty where there are none."""
    return {name: shape for file in _files(folder) for name, (shape, _) in header(file).items()}


def checkpoint_dtypes(folder: Path) -> set[str]:
    """The types of all matrices, as safetensors calls them (F32, BF16); empty where there are no such files."""
    return {dtype for file in _files(folder) for shape, dtype in header(file).values() if len(shape) > 1}


def has_all_shards(folder: Path | None) -> bool:
    """Whether a folder has every weight file that its index names; not so without an index, or a damaged one.

    Args:
        folder: Of the hub's cache, which may be fetching them; None: there is none.
    """
    try:
        return folder is not None and (folder / INDEX).is_file() and bool(_shards(folder))
    except UserError:
        return False


def _files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    return _shards(folder) if (folder / INDEX).is_file() else []


def _shards(folder: Path) -> list[Path]:
    try:
        files = sorted(set(parse_json((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError):
        raise UserError(f"{folder / INDEX} is no index of weight files (it has no weight_map)") from None
    if out := [file for file in files if file == ".." or Path(str(file)).name != file]:
        raise UserError(f"{folder / INDEX} names {out[0]!r}, which is no file of its folder; copy it there")
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise UserError(f"the model folder {folder} lacks {', '.join(missing)}, named in {INDEX}")
    return [folder / file for file in files]
