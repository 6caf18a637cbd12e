"""Where a recipe's model lies on this machine: ``model_folder(name)``."""

from __future__ import annotations

from pathlib import Path

from autolora.errors import UserError
from autolora.model.bundled import bundled_folder
from autolora.model.explain import ADAPTER, adapter_fault
from autolora.model.weight_files import INDEX, WEIGHTS, has_all_shards
from autolora.planted.kinds import is_planted
from autolora.words import did_you_mean

CONFIG = "config.json"


def model_folder(name: str, revision: str | None = None) -> Path | None:
    """Where the model's weights are: a folder, the bundled package, or the hub's cache.

    None where they are not here yet, and of a planted model, which is nowhere.
    """
    if is_planted(name):
        return None
    if name.startswith("bundled:"):
        return bundled_folder(name.removeprefix("bundled:"))
    if Path(name).is_absolute():
        return _local_folder(Path(name))
    return _cached_folder(name, revision)


def _cached_folder(name: str, revision: str | None) -> Path | None:
    """The hub cache's folder of a model that is wholly there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = {file: try_to_load_from_cache(name, file, revision=revision) for file in (CONFIG, WEIGHTS, INDEX)}
    except HFValidationError:
        raise UserError(
            f"{name!r} is neither a hub id (owner/name) nor a local folder (which starts with '.', '/' or '~')"
        ) from None
    adapter = try_to_load_from_cache(name, ADAPTER, revision=revision)
    if isinstance(adapter, str) and (fault := adapter_fault(Path(adapter).parent)):
        raise UserError(f"{name}: {fault}")
    here = {file: Path(path).parent for file, path in cached.items() if isinstance(path, str)}
    return here[CONFIG] if CONFIG in here and (WEIGHTS in here or has_all_shards(here.get(INDEX))) else None


def _local_folder(folder: Path) -> Path:
    if not folder.is_dir():
        siblings = [child.name for child in folder.parent.iterdir() if child.is_dir()] if folder.parent.is_dir() else []
        near = did_you_mean(folder.name, siblings)
        raise UserError(f"there is no model folder {folder}{f'; {near}' if near else ''}")
    if fault := adapter_fault(folder):
        raise UserError(fault)
    if not (folder / CONFIG).is_file():
        raise UserError(f"the model folder {folder} has no config.json")
    return folder
