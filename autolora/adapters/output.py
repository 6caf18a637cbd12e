"""The folder of a merged model or a smaller adapter: whole or not there, and never in place of anything else.

What was written here says so: a record names every file with its SHA-256 (``merged.json``, which also names the base
model and the adapter; ``written.json`` beside a smaller adapter). Only a folder with that record, in which nothing has
been added or changed since, is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from autolora.errors import UserError
from autolora.files import file_hash, read_json, replace_folder, write_json

RECORD = "merged.json"
WRITTEN = "written.json"
FORMAT = 2  # of 1 the files had no hashes


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
    if output.is_dir() and (why := foreign(output, RECORD)):
        raise UserError(
            f"--output: {output} holds files that are no merged model of autolora's as it was written: {why}; name a "
            "new folder"
        )


def foreign(folder: Path, record: str) -> str:
    """What of a folder was not written here, or is no longer as it was written; "" where there is nothing.

    Args:
        folder: That is there.
        record: The name of the file that `mark` has written.
    """
    there = _files(folder)
    if not there:
        return ""
    content = read_json(folder / record) if record in there else None
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict):
        return f"it has no {record} that names its files"
    if added := sorted(there - {*files, record}):
        return f"{added[0]} has been added"
    changed = (name for name in sorted(there & files.keys()) if file_hash(folder / name) != files[name])
    return next((f"{name} has been changed" for name in changed), "")


def mark(folder: Path, record: str, content: Mapping[str, object]) -> None:
    """Write which files a folder has, and what is in them.

    Args:
        folder: With all of them.
        record: The name of the file that says so.
        content: What else it says.
    """
    files = {name: file_hash(folder / name) for name in sorted(_files(folder))}
    write_json(folder / record, {"format": FORMAT, **content, "files": files})


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
            mark(fresh, RECORD, record)
    except OSError as error:
        raise UserError(f"--output: {output} cannot be written: {error}") from error
