"""Data files on disk, without any data library: which file a split is, and which columns it has.

    path = split_file(recipe.data, "train")   # <root>/<path>/train.jsonl
    names = column_names(path)                # ["sentence", "label", "idx"]

A split is one file, ``<split>.jsonl`` (or .json, .csv, .tsv, .parquet, .conll); it may also be named with its suffix.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path, PurePath
from typing import Any

from autolora.errors import UserError
from autolora.recipe.schema import Data
from autolora.words import did_you_mean

CONLL_COLUMNS = ("tokens", "ner_tags")  # what the first and the last column of a CoNLL file are called
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".conll")


def is_local(data: Data) -> bool:
    """Whether the examples are read from files: a root is given, or there is no hub to fetch them from."""
    return data.generated is None and (data.root is not None or data.hub is None)


def data_folder(data: Data) -> Path:
    """The folder that holds the split files."""
    return Path(data.root or ".") / (data.path or "")


def split_file(data: Data, split: str) -> Path:
    """The one file of a split.

    Args:
        data: The recipe's data section, with local files.
        split: As the recipe names it.

    Raises:
        UserError: There is none, or several; the message lists the splits there are.
    """
    folder = data_folder(data)
    if not folder.is_dir():
        raise UserError(no_folder(folder))
    if leaves_folder(split):
        raise UserError(f"split {split!r} must name a file inside {folder}")
    names = [split] if PurePath(split).suffix in SUFFIXES else [split + suffix for suffix in SUFFIXES]
    found = [folder / name for name in names if (folder / name).is_file()]
    if len(found) > 1:
        files = ", ".join(path.name for path in found)
        raise UserError(f"split {split!r} is ambiguous in {folder}: {files}; name the file, suffix included")
    if not found:
        there = local_splits(folder)
        listed = f"it has: {', '.join(there)}" if there else f"it has no file that ends in {', '.join(SUFFIXES)}"
        near = did_you_mean(split, there)
        raise UserError(f"no split {split!r} in {folder}; {listed}{f'; {near}' if near else ''}")
    return found[0]


def local_splits(folder: Path) -> list[str]:
    """The splits a folder has files for."""
    return sorted({path.stem for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file()})


def leaves_folder(path: str) -> bool:
    """Whether a relative path is absolute after all, or climbs out of the folder it is relative to."""
    depth = 0
    for part in PurePath(path).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return PurePath(path).is_absolute()


def column_names(path: Path) -> list[str]:
    """The columns of a data file, read from its first line, header or schema.

    Args:
        path: JSON Lines, JSON, CSV, TSV, Parquet or CoNLL.

    Raises:
        UserError: It cannot be read.
    """
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty")
    try:
        if path.suffix == ".parquet":
            return _parquet_columns(path)
        if path.suffix == ".conll":
            return list(CONLL_COLUMNS)
        return _json_columns(path) if path.suffix in (".jsonl", ".json") else _csv_columns(path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the file is not UTF-8 text ({error.reason})") from None


def _parquet_columns(path: Path) -> list[str]:
    from pyarrow import ArrowException, parquet  # the only format that needs a library

    try:
        file = parquet.read_metadata(path)
    except (ArrowException, OSError) as error:
        raise UserError(f"{path}: this is no Parquet file: {error}") from None
    if file.num_rows == 0:
        raise UserError(f"{path}: the file has no rows")
    return list(file.schema.to_arrow_schema().names)


def _csv_columns(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            reader = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            header, first = next(reader, []), next(filter(None, reader), None)
        except csv.Error as error:
            raise UserError(f"{path}:1: the first lines are malformed: {error}") from None
    if not any(name.strip() for name in header):
        raise UserError(f"{path}:1: the first line must name the columns, got an empty line")
    if first is None:
        raise UserError(f"{path}: the file has no rows, only the columns' names")
    return header


def _json_columns(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                if path.suffix == ".json" and line.lstrip()[0] == "[":
                    return _array_columns(path)
                return list(json_object(line, f"{path}:{number}"))
    raise UserError(f"{path}: the file has only empty lines")


def _array_columns(path: Path) -> list[str]:
    """The keys of the first object of a JSON array, which may spread over any number of lines."""
    text = path.read_text(encoding="utf-8-sig")
    start = text.find("{")
    if start < 0:
        raise UserError(f"{path}: must be a JSON array of objects, and has no object in it")
    try:
        first, _ = json.JSONDecoder().raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: the first object is no JSON: {error.msg}") from None
    return list(first)


def json_object(line: str, where: str) -> dict[str, Any]:
    """One line of JSON Lines.

    Args:
        line: Of the file.
        where: Goes in front of what is wrong with it: file and number of the line.

    Raises:
        UserError: It is no JSON object.
    """
    try:
        row = json.loads(line.rstrip())
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: the line is no JSON: {error.msg} at character {error.pos + 1}") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: the line must be a JSON object, got {line.strip()[:60]}")
    return row


def no_folder(folder: Path) -> str:
    """Says that a data folder is not there, from which part of its path on, and the nearest name there is."""
    missing = folder
    while not missing.parent.is_dir():
        missing = missing.parent
    near = did_you_mean(missing.name, [child.name for child in missing.parent.iterdir() if child.is_dir()])
    part = "" if missing == folder else f"; {missing.parent} has no {missing.name!r}"
    return f"there is no data folder {folder}{part}{f'; {near}' if near else ''}"
