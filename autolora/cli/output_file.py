"""A file or folder of the user's that a command writes: ``output = output_file(output, "--output", "ranks.json")``."""

from __future__ import annotations

from pathlib import Path

from autolora.errors import UserError
from autolora.lora.stored import CONFIG, TENSORS
from autolora.runs.folders import is_run


def output_file(path: Path, option: str, example: str | None = None) -> Path:
    """Where the file is written that is meant: where a link leads, so that whoever reads there sees it.

    Args:
        path: As it was given; a file that is there is replaced.
        option: That gave it, for messages.
        example: A name for it, should a folder have been given.

    Raises:
        UserError: It is a folder or no file, lies in a run, or is the configuration of an adapter.
    """
    if path.is_dir():
        such = f" in it, such as {path / example}" if example else ""
        raise UserError(f"{option}: {path} is a folder; name a file{such}")
    if path.exists() and not path.is_file():
        raise UserError(
            f"{option}: {path} is no file, and would be replaced by one; leave {option} out for standard output"
        )
    place = path.resolve()
    check_outside_runs(place, option)
    if place.name == CONFIG and (place.parent / TENSORS).exists():
        raise UserError(f"{option}: {path} is the configuration of an adapter, which would be lost; name another file")
    return place if path.is_symlink() else path


def check_outside_runs(path: Path, option: str) -> None:
    """Make sure that nothing of a run is written over, or looks like a part of it.

    Args:
        path: A file or folder, which need not be there.
        option: That gave it, for the message.

    Raises:
        UserError: It lies in a run, or is one.
    """
    place = path.resolve()
    for folder in (place, *place.parents):
        if is_run(folder):
            raise UserError(f"{option}: {path} lies in the run {folder}, whose files are its own; name another place")
