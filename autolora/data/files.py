"""Data files on disk, without any data library: which files a split is, and which columns they have.

    files = split_files(recipe.data, "train")   # [<root>/<path>/train.jsonl]
    names = column_names(files[0])              # ["sentence", "label", "idx"]

A split is one file, ``<split>.jsonl`` (or .csv, .parquet, …, and .jsonl.gz, …), its shards
(``train-00000-of-00002.parquet``, …) or the files of a folder of its name. It may also be the name of a file with its
suffix, a pattern with ``glob:`` in front, or several of these with `JOIN` between them. No other name is a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from autolora.data.reading.formats import ENDINGS, READERS, open_table
from autolora.data.reading.source import COMPRESSED, Source
from autolora.data.reading.table import Table
from autolora.errors import UserError
from autolora.recipe.data import GLOB, JOIN
from autolora.recipe.schema import Data
from autolora.words import did_you_mean

# Data sets that were uploaded to the hub some years ago have a hash at the end.
_SHARD = re.compile(r"(?P<split>.+)-(?P<number>\d+)-of-(?P<count>\d+)(?:-[0-9a-f]{16})?")
_SAVED = ("state.json", "dataset_info.json")  # of what the library `datasets` saves, beside files of its own format


def is_local(data: Data) -> bool:
    """Whether the examples are read from files: a root is given, or there is no hub to fetch them from."""
    return data.generated is None and (data.root is not None or data.hub is None)


def data_folder(data: Data) -> Path:
    """The folder that holds the split files."""
    return Path(data.root or ".") / (data.path or "")


def split_files(data: Data, split: str) -> list[Path]:
    """The files of a split, in order.

    Raises:
        UserError: There are none, or it is not clear which; the message lists the splits there are.
    """
    folder = data_folder(data)
    if not folder.is_dir():
        raise UserError(no_folder(folder))
    parts = split.split(JOIN) if JOIN in split and not (folder / split).is_file() else [split]
    files = [file for part in parts for file in _part_files(folder, part)]
    twice = next((file for i, file in enumerate(files) if any(file.samefile(other) for other in files[:i])), None)
    if twice:
        raise UserError(f"split {split!r} has the file {twice} twice; name it once")
    return files


def _part_files(folder: Path, part: str) -> list[Path]:
    """Of one file, split or pattern."""
    name = part.removeprefix(GLOB)
    if leaves_folder(name) or not name:
        raise UserError(f"split {part!r} must name a file inside {folder}")
    if part != name:
        return _matches(folder, name)
    if name.endswith(ENDINGS):
        if (folder / name).is_file():
            return [folder / name]
        raise _no_split(folder, name)
    found = [[folder / (name + ending)] for ending in ENDINGS if (folder / (name + ending)).is_file()]
    inside = _inside(folder / name)
    found += [files for files in (_shards(folder, name), inside) if files]
    if len(found) > 1:
        shown = ", ".join(_shown(files, folder) for files in found)
        raise UserError(f"split {name!r} is ambiguous in {folder}: {shown}; name the file, suffix included")
    if not found:
        raise _saved(folder / name) if _is_saved(folder / name) else _no_split(folder, name)
    if found[0] is inside:  # what lies beside other splits is one file, or all shards
        _check_once(inside, name)
    return found[0]


def _matches(folder: Path, pattern: str) -> list[Path]:
    try:
        found = sorted(path for path in folder.glob(pattern) if path.is_file())
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"split {GLOB + pattern!r}: this is no pattern of file names: {error}") from None
    if not found:
        raise UserError(f"split {GLOB + pattern!r}: no file in {folder} matches the pattern")
    if other := [path.name for path in found if not path.name.endswith(ENDINGS)]:
        raise UserError(f"split {GLOB + pattern!r}: {other[0]} matches, which is no file that ends in {_endings()}")
    _check_once(found, GLOB + pattern)
    return found


def _check_once(files: Sequence[Path], split: str) -> None:
    """Refuse files of a split that are one file in two forms, or some shards of several: rows twice, or too few."""
    forms: dict[Path, Path] = {}
    sharded: dict[Path, None] = {}
    for path in files:
        if (twin := forms.setdefault(path.with_name(_stem(path)), path)) is not path:
            raise UserError(
                f"split {split!r}: {twin.name} and {path.name} in {path.parent} are one file in two forms, whose rows "
                "would count twice; remove one of them, or name the files"
            )
        if shard := _SHARD.fullmatch(_stem(path)):
            sharded[path.parent / shard["split"]] = None
    for prefix in sharded:
        _shards(prefix.parent, prefix.name)  # all of them are there


def _shards(folder: Path, split: str) -> list[Path]:
    """The files ``<split>-00000-of-00002.parquet``, …, all of them."""
    parent = (folder / split).parent
    found: dict[int, Path] = {}
    counts = set()
    for path in sorted(parent.iterdir()) if parent.is_dir() else ():
        shard = _SHARD.fullmatch(_stem(path)) if path.name.endswith(ENDINGS) else None
        if shard and shard["split"] == PurePath(split).name:
            if int(shard["number"]) in found:
                raise UserError(
                    f"split {split!r}: {found[int(shard['number'])].name} and {path.name} are the same shard"
                )
            found[int(shard["number"])] = path
            counts.add(int(shard["count"]))
    if not found:
        return []
    if len(counts) > 1 or sorted(found) != list(range(max(counts))):
        raise UserError(
            f"split {split!r}: of the {max(counts)} shards in {parent} there are {len(found)}: "
            f"{', '.join(path.name for path in found.values())}"
        )
    return [found[number] for number in sorted(found)]


def _inside(folder: Path) -> list[Path]:
    """The data files in a split's own folder."""
    if not folder.is_dir() or _is_saved(folder):
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name.endswith(ENDINGS))


def _no_split(folder: Path, split: str) -> UserError:
    if _is_saved(folder):
        return _saved(folder)
    there = local_splits(folder)
    listed = f"it has: {', '.join(there)}" if there else f"it has no file that ends in {_endings()}"
    near = did_you_mean(split, there)
    return UserError(f"no split {split!r} in {folder}; {listed}{f'; {near}' if near else ''}")


def _is_saved(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _SAVED)


def _saved(folder: Path) -> UserError:
    return UserError(
        f"{folder} is what save_to_disk of the library datasets writes, which only that reads; write the split as "
        'Parquet: datasets.load_from_disk("…").to_parquet("train.parquet")'
    )


def _endings() -> str:
    return f"{', '.join(READERS)}, nor in one of these and {', '.join(COMPRESSED)}"


def _shown(files: Sequence[Path], folder: Path) -> str:
    return files[0].name if files[0].parent == folder and len(files) == 1 else f"{len(files)} files such as {files[0]}"


def _stem(path: Path) -> str:
    ending = next(ending for ending in sorted(ENDINGS, key=len, reverse=True) if path.name.endswith(ending))
    return path.name.removesuffix(ending)


def local_splits(folder: Path) -> list[str]:
    """The splits a folder has files for."""
    stems = {_stem(path) for path in folder.iterdir() if path.name.endswith(ENDINGS) and path.is_file()}
    shards = {shard["split"] if (shard := _SHARD.fullmatch(stem)) else stem for stem in stems}
    return sorted(shards | {path.name for path in folder.iterdir() if _inside(path)})


def leaves_folder(path: str) -> bool:
    """Whether a relative path is absolute after all, or climbs out of the folder it is relative to."""
    depth = 0
    for part in PurePath(path).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return PurePath(path).is_absolute()


def read_table(path: Path, data: Data) -> Table:
    """The beginning of a data file, in the recipe's encoding.

    Raises:
        UserError: The file is none of its format.
    """
    return open_table(Source(path, data.encoding))


def column_names(path: Path, encoding: str = "utf-8") -> list[str]:
    """The columns of a data file, read from its first lines, header or schema."""
    return list(open_table(Source(path, encoding)).columns)


def no_folder(folder: Path) -> str:
    """Says that a data folder is not there, from which part of its path on, and the nearest name there is."""
    missing = folder
    while not missing.parent.is_dir():
        missing = missing.parent
    near = did_you_mean(missing.name, [child.name for child in missing.parent.iterdir() if child.is_dir()])
    part = "" if missing == folder else f"; {missing.parent} has no {missing.name!r}"
    return f"there is no data folder {folder}{part}{f'; {near}' if near else ''}"
