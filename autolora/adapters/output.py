"""The folder of a merged model: whole or not there, and never in place of anything else.

What was written here says so: ``merged.json`` names the base model, the adapter and every file. Only a folder with that
record, and with nothing beside what it names, is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from autolora.errors import UserError
from autolora.files import read_json, replace_folder, write_json

RECORD = "merged.json"


def check_output(output: Path, *sources: Path | None) -> None:
    """Make sure that a folder can be made or replaced.

    Args:
        output: The folder.
        sources: What is read; none of them may be in it, or it in one of them.

    Raises:
        UserError: It cannot.
    """
    place = output.resolve()
    for source in (each.resolve() for each in sources if each is not None):
        if place == source or place in source.parents or source in place.parents:
            raise UserError(f"--output: {output} and {source}, which is read, are in one another; name another folder")
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise UserError(f"--output: {output} is no folder; name a new one")
    for beside in (output.with_name(output.name + suffix) for suffix in (".new", ".old")):
        if beside.exists():
            raise UserError(f"--output: {beside}, which would be used meanwhile, is there; move or remove it")
    if output.is_dir() and any(output.iterdir()) and not _ours(output):
        raise UserError(f"--output: {output} holds files that are no merged model of autolora's; name a new folder")


def _ours(folder: Path) -> bool:
    if not (folder / RECORD).is_file():
        return False
    record = read_json(folder / RECORD)
    files = record.get("files") if isinstance(record, dict) else None
    return isinstance(files, list) and _files(folder) <= {*files, RECORD}


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


@contextmanager
def written(output: Path, record: Mapping[str, object]) -> Iterator[Path]:
    """A new folder that takes its place when the block that fills it ends without an error; else nothing is left.

    Args:
        output: The folder, after `check_output`.
        record: What is kept beside the names of the files.
    """
    try:
        with replace_folder(output) as fresh:
            yield fresh
            write_json(fresh / RECORD, {"format": 1, **record, "files": sorted(_files(fresh))})
    except OSError as error:
        raise UserError(f"--output: {output} cannot be written: {error}") from error
