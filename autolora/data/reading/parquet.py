"""Parquet, batch by batch. Columns of class numbers that carry their names (`datasets.ClassLabel`) hold those names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from autolora.data.reading.source import COMPRESSED, Source
from autolora.data.reading.table import ROW, Row, Table
from autolora.errors import UserError

BATCH = 500  # rows
NO_LABEL = -1  # what ClassLabel columns hold where there is no label


def open_parquet(source: Source) -> Table:
    """A Parquet file."""
    from pyarrow import ArrowException, parquet  # imported for this format only: checking a recipe is quick

    if source.path.suffix in COMPRESSED:
        raise UserError(f"{source.path}: a Parquet file is compressed inside; unpack it")
    try:
        file = parquet.read_metadata(source.path)
        schema = file.schema.to_arrow_schema()
    except (ArrowException, OSError) as error:
        raise UserError(f"{source.path}: this is no Parquet file: {error}") from None
    if file.num_rows == 0:
        raise UserError(f"{source.path}: the file has no rows")
    names = feature_names(schema.metadata or {})
    return Table(str(source.path), list(schema.names), partial(_rows, source, names), ROW, names)


def feature_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """The class names of the columns that carry their own, from what the library `datasets` notes in a schema."""
    try:
        features = dict(json.loads(metadata[b"huggingface"])["info"]["features"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    found = {column: _class_names(feature) for column, feature in features.items()}
    return {column: names for column, names in found.items() if names}


def _class_names(feature: Any) -> tuple[str, ...]:
    """Of a ClassLabel, or of a list of them."""
    if isinstance(feature, list):
        feature = feature[0] if feature else {}
    if not isinstance(feature, Mapping):
        return ()
    if feature.get("_type") == "ClassLabel":
        return tuple(map(str, feature.get("names") or ()))
    return _class_names(feature.get("feature"))


def named(value: Any, names: Sequence[str] | None) -> Any:
    """A class number, or a list of them, by the names that their column carries; what is no class number, as it is.

    Raises:
        UserError: There is no such class; the message has no place in it.
    """
    if names is None or not isinstance(value, int | list) or value == NO_LABEL:
        return value
    if isinstance(value, list):
        return [named(item, names) for item in value]
    if not 0 <= value < len(names):
        raise UserError(
            f"the class number {value} is none of the {len(names)} classes of the column: {', '.join(names)}"
        )
    return names[value]


def _rows(source: Source, names: Mapping[str, Sequence[str]], wanted: Sequence[str]) -> Iterator[Row]:
    from pyarrow import ArrowException, parquet

    number = 0
    try:
        with parquet.ParquetFile(source.path) as file:
            for batch in file.iter_batches(BATCH, columns=list(wanted)):
                try:
                    columns = [batch.column(name).to_pylist() for name in wanted]
                except UnicodeDecodeError as error:
                    rows = f"rows {number + 1} to {number + batch.num_rows}"
                    raise UserError(f"{source.path}: a text of {rows} is not UTF-8 ({error}); write it anew") from None
                for cells in zip(*columns, strict=True):
                    number += 1
                    try:
                        yield number, [named(cell, names.get(name)) for cell, name in zip(cells, wanted, strict=True)]
                    except UserError as error:
                        raise UserError(f"{ROW.format(file=source.path, number=number)}: {error}") from None
    except (ArrowException, OSError) as error:
        raise UserError(f"{source.path}: the file cannot be read: {' '.join(str(error).split())}") from None
