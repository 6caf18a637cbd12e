"""Where the rows of a split come from: files, the Hugging Face hub, the package's own grammar, a planted teacher.

opened = open_source(data, ["train", "validation"])
opened("train", columns)                            # `Opened`: its rows, as `autolora.data.spool` takes them
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
from datasets import packaged_modules
from huggingface_hub import constants

from autolora.data.files import is_local, read_table, split_files
from autolora.data.labels import own_names
from autolora.data.reading.parquet import named
from autolora.data.reading.table import Row, Table, require
from autolora.data.spool import Column, Part
from autolora.errors import UnreachableError, UserError
from autolora.model.hub import hub_or_cache
from autolora.planted.kinds import GENERATED
from autolora.recipe.schema import Data
from autolora.words import did_you_mean

AT_ONCE = 250  # rows of a data set in memory


@dataclass(frozen=True)
class Opened:
    """A split before it is read.

    Args:
        parts: Its rows, the cells in the columns' order.
        columns: Those of the wanted ones that are there: all but optional ones and those that may be absent.
        names: What the labels of each column are called, where they carry names.
    """

    parts: Sequence[Part]
    columns: Sequence[Column]
    names: Mapping[str, Sequence[str]]


Open = Callable[[str, Sequence[Column]], Opened]


def open_source(data: Data, names: Sequence[str], model: str = "") -> Open:
    """What opens each of these splits.

    Args:
        data: The recipe's section.
        names: Of the splits.
        model: The name that the model is loaded by, whose teacher labels planted data.

    Raises:
        UserError: The data set, or one of its splits, is not there.
    """
    if data.generated is not None:
        return partial(_open_dataset, _pick(_generated(data, model), names, "generated data"))
    if is_local(data):
        return partial(_open_files, data)
    return partial(_open_dataset, _from_hub(data, names))


def _open_files(data: Data, split: str, columns: Sequence[Column]) -> Opened:
    tables = [read_table(path, data) for path in split_files(data, split)]
    shown = {name for table in tables for name in table.columns}
    more = any(table.more for table in tables)
    kept = [replace(column, unshown=column.name not in shown) for column in columns if _kept(column, shown, more=more)]
    wanted = [column.name for column in kept]
    for table in tables:
        require(table.columns, [column.name for column in kept if not _may_lack(table, column)], table.file)
    parts = [Part(partial(_table_rows, table, wanted), table.at) for table in tables]
    return Opened(parts, kept, {name: names for name in wanted if (names := _together(tables, name))})


def _kept(column: Column, shown: Collection[str], *, more: bool = False) -> bool:
    """Whether a column is read: one that rows or the split may lack where a file has it, or its later rows may."""
    return more or column.name in shown or not (column.optional or column.absent)


def _may_lack(table: Table, column: Column) -> bool:
    """Whether a file need not show a column."""
    return column.name not in table.columns and (column.optional or (column.absent and table.more))


def _table_rows(table: Table, wanted: Sequence[str]) -> Iterator[Row]:
    """The rows of a file, with missing cells in columns that it has not."""
    there = [name for name in wanted if table.more or name in table.columns]
    if len(there) == len(wanted):
        yield from table.rows(wanted)
        return
    places = [there.index(name) if name in there else None for name in wanted]
    for number, cells in table.rows(there):
        yield number, [None if place is None else cells[place] for place in places]


def _together(tables: Sequence[Table], column: str) -> list[str]:
    """The class names of all files, those of the first file first."""
    return list(dict.fromkeys(name for table in tables for name in table.names.get(column, ())))


def _open_dataset(splits: Mapping[str, datasets.Dataset], split: str, columns: Sequence[Column]) -> Opened:
    rows = splits[split]
    kept = [column for column in columns if _kept(column, rows.column_names)]
    wanted = [column.name for column in kept]
    require(rows.column_names, wanted, f"split {split!r}")
    names = {name: own for name in wanted if (own := own_names(rows, name))}
    part = Part(partial(_dataset_rows, rows, wanted, names, split), partial(_row, split))
    return Opened([part], kept, names)


def _row(split: str, number: int) -> str:
    return f"split {split!r}, row {number}"


def _dataset_rows(
    rows: datasets.Dataset, wanted: Sequence[str], names: Mapping[str, Sequence[str]], split: str
) -> Iterator[Row]:
    number = 0
    for batch in rows.with_format(None).select_columns(list(wanted)).iter(AT_ONCE):
        for cells in zip(*(batch[name] for name in wanted), strict=True):
            number += 1
            try:
                yield number, [named(cell, names.get(name)) for cell, name in zip(cells, wanted, strict=True)]
            except UserError as error:
                raise UserError(f"{_row(split, number)}: {error}") from None


def _generated(data: Data, model: str) -> dict[str, datasets.Dataset]:
    if data.generated == GENERATED:
        from autolora.planted.rows import planted_rows

        return {name: datasets.Dataset.from_list(rows) for name, rows in planted_rows(model).items()}
    if data.generated == "facts":
        from autolora.data.facts import facts

        return {n: datasets.Dataset.from_list([asdict(e) for e in rows]) for n, rows in facts(seed=0).items()}
    from autolora.data.grammar import LABELS, acceptability

    label = datasets.ClassLabel(names=list(LABELS))
    tables = {n: datasets.Dataset.from_list([asdict(e) for e in rows]) for n, rows in acceptability(seed=0).items()}
    return {name: rows.cast_column("label", label) for name, rows in tables.items()}


def _pick(splits: Any, names: Sequence[str], source: str) -> dict[str, datasets.Dataset]:
    for name in names:
        if name not in splits:
            near = did_you_mean(name, splits)
            raise UserError(f"no split {name!r} in {source}; it has: {', '.join(splits)}{f'; {near}' if near else ''}")
    return {name: splits[name] for name in names}


def _from_hub(data: Data, names: Sequence[str]) -> dict[str, datasets.Dataset]:
    parts = {"configuration": data.config, "revision": data.revision}
    detail = "".join(f", {key} {value}" for key, value in parts.items() if value)
    source = f"data set {data.hub!r}{detail} of the Hugging Face hub"
    if fault := _no_hub_fault(str(data.hub)):
        raise UserError(f"data.hub: {fault}")
    try:
        with hub_or_cache() as answered:
            splits = datasets.load_dataset(data.hub, data.config, revision=data.revision)
    except Exception as error:  # no network, no such data set, no such configuration, …
        files = f"{data.path or '.'}/{data.splits.train}.jsonl"
        cause = _root_cause(error) if answered else f"{constants.ENDPOINT} does not answer, and the cache lacks it"
        raise UnreachableError(
            f"cannot fetch {source}: {cause}. Where the hub cannot be reached, "
            f"--data-root DIR reads local files instead (DIR/{files}, …)"
        ) from error
    return _pick(splits, names, source)


def _no_hub_fault(hub: str) -> str:
    """What the library would read instead of a data set of the hub: files here, pickled ones among them."""
    if Path(hub).exists():
        return (
            f"{hub!r} is a data set of the hub, but {Path(hub).absolute()} is there, too; write data.path and "
            "data.root (--data-root) if that is meant, or give the command in another folder"
        )
    if hub in {module.name for module in pkgutil.iter_modules(packaged_modules.__path__)}:
        return f"{hub!r} is a kind of file, and no data set of the hub; write data.path to read local files"
    return ""


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:300] or type(error).__name__
