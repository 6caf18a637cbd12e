"""The examples of a recipe, as `datasets.Dataset`s: ``load_splits(recipe.data, recipe.seed, family)``.

They come from local files, the Hugging Face hub or the package's own grammar. Only the columns that are used are kept:
text, label, and ``idx`` if there is one. Empty splits, missing columns and rows without text or label are UserErrors.
`content_hash` says whether two splits hold the same rows.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import datasets
import numpy as np
import pyarrow.compute as pc

from autolora.data.conll import read_conll
from autolora.data.files import column_names, is_local, json_object, split_file
from autolora.errors import UserError
from autolora.recipe.schema import Data
from autolora.words import did_you_mean

INDEX = "idx"  # GLUE's row number, kept where there is one
HASHED_AT_ONCE = 10_000  # rows


class Family(Protocol):
    """What a task family says of its columns (see `autolora.tasks.base.Task`)."""

    def text_columns(self, data: Data) -> tuple[str, ...]:
        """The columns to be read as text, whatever they look like.

        Args:
            data: The recipe's data section.
        """

    def check_rows(self, rows: Any, data: Data, split: str) -> None:
        """Make sure that a split's columns hold what the family needs.

        Args:
            rows: The split's rows, of which no cell is null.
            data: The recipe's data section.
            split: Its name, for messages.

        Raises:
            UserError: A column holds something else.
        """


def load_splits(
    data: Data, seed: int, family: Family, *, only: Sequence[str] | None = None, labelled: bool = True
) -> dict[str, datasets.Dataset]:
    """The training split and each evaluation split by name, at most as many rows as `data.limits` says.

    Args:
        data: The recipe's data section.
        seed: The recipe's, for which rows stay below a limit.
        family: The recipe's task family.
        only: Names of the splits that are read; None for all of the recipe's.
        labelled: False: leave out the labels, which may be missing.

    Raises:
        UserError: Something cannot be fetched or read, is missing, or is not what the family needs.
    """
    if not labelled:
        data = data.model_copy(update={"label": data.columns[0]})  # a column that is there
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what goes wrong is raised, once
    names = list(dict.fromkeys((data.splits.train, *data.splits.eval) if only is None else only))
    if data.generated is not None:
        splits = _generated(data, names)
    elif is_local(data):
        splits = {name: _local(data, name, family.text_columns(data)) for name in names}
    else:
        splits = _from_hub(data, names)
    checked = {name: _checked(rows, data, name) for name, rows in splits.items()}
    for name, rows in checked.items():
        family.check_rows(rows, data, name)
    limits = {name: data.limits.train if name == data.splits.train else data.limits.eval for name in names}
    return {name: _limited(rows, limits[name], seed) for name, rows in checked.items()}


def content_hash(dataset: datasets.Dataset) -> str:
    """SHA-256 over the rows in their order; the same for the same rows, wherever they were read from.

    Args:
        dataset: A split, as `load_splits` gives it.
    """
    names = sorted(dataset.column_names)
    digest = hashlib.sha256(json.dumps([names, len(dataset)]).encode())
    plain = dataset.with_format(None)
    for start in range(0, len(plain), HASHED_AT_ONCE):
        rows = plain[start : start + HASHED_AT_ONCE]
        digest.update(json.dumps([rows[name] for name in names], default=repr).encode())
    return digest.hexdigest()


def _generated(data: Data, names: list[str]) -> dict[str, datasets.Dataset]:
    from autolora.data.grammar import LABELS, acceptability

    written = acceptability(seed=0)
    label = datasets.ClassLabel(names=list(LABELS))
    tables = {name: datasets.Dataset.from_list([asdict(e) for e in rows]) for name, rows in written.items()}
    return _pick({name: rows.cast_column("label", label) for name, rows in tables.items()}, names, "generated data")


def _pick(splits: Any, names: list[str], source: str) -> dict[str, datasets.Dataset]:
    for name in names:
        if name not in splits:
            near = did_you_mean(name, splits)
            raise UserError(f"no split {name!r} in {source}; it has: {', '.join(splits)}{f'; {near}' if near else ''}")
    return {name: splits[name] for name in names}


def _local(data: Data, split: str, text: Sequence[str]) -> datasets.Dataset:
    path = split_file(data, split)
    columns = column_names(path)
    _require_columns(data, columns, str(path))
    if path.suffix == ".conll":
        return datasets.Dataset.from_dict(read_conll(path))
    with tempfile.TemporaryDirectory() as cache:  # a cache of its own: never yesterday's rows of a changed file
        try:
            return datasets.load_dataset(
                _reader(path),
                data_files=str(path),
                split="train",
                cache_dir=cache,
                keep_in_memory=True,
                **_reader_options(path, text, _wanted(data, columns)),
            )
        except Exception as error:  # the readers raise a dozen types for a malformed file
            _find_bad_line(path)
            raise UserError(f"{path}: the file cannot be read: {_root_cause(error)}") from error


def _reader(path: Path) -> str:
    return {".jsonl": "json", ".json": "json", ".parquet": "parquet"}.get(path.suffix, "csv")


def _reader_options(path: Path, text: Sequence[str], wanted: list[str]) -> dict[str, Any]:
    """Read no text as anything else than text, and of Parquet no more columns than needed."""
    if path.suffix == ".parquet":
        return {"columns": wanted}
    if path.suffix in (".csv", ".tsv"):
        # Only an empty field is a missing one: "NA", "None" and "null" are words.
        missing = {"keep_default_na": False, "na_values": [""], "converters": dict.fromkeys(text, _csv_text)}
        return {"delimiter": "\t" if path.suffix == ".tsv" else ",", **missing}
    return {}


def _csv_text(field: str) -> str | None:
    return field or None


def _find_bad_line(path: Path) -> None:
    """Raises UserError with the number of the first malformed line of a JSON Lines file."""
    if path.suffix == ".jsonl":
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    json_object(line, f"{path}:{number}")


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:300] or type(error).__name__


def _from_hub(data: Data, names: list[str]) -> dict[str, datasets.Dataset]:
    parts = {"configuration": data.config, "revision": data.revision}
    detail = "".join(f", {key} {value}" for key, value in parts.items() if value)
    source = f"data set {data.hub!r}{detail} of the Hugging Face hub"
    try:
        splits = datasets.load_dataset(data.hub, data.config, revision=data.revision)
    except Exception as error:  # no network, no such data set, no such configuration, …
        files = f"{data.path or '.'}/{data.splits.train}.jsonl"
        raise UserError(
            f"cannot fetch {source}: {_root_cause(error)}. Where the hub cannot be reached, "
            f"--data-root DIR reads local files instead (DIR/{files}, …)"
        ) from error
    return _pick(splits, names, source)


def _wanted(data: Data, columns: list[str]) -> list[str]:
    used = (*_needed(data), INDEX)
    return [name for name in columns if name in used]


def _needed(data: Data) -> tuple[str, ...]:
    return (*data.columns, data.label, *([data.category] if data.category else []))


def _require_columns(data: Data, columns: list[str], source: str) -> None:
    for name in _needed(data):
        if name not in columns:
            near = did_you_mean(name, columns)
            raise UserError(
                f"no column {name!r} in {source}; it has: {', '.join(columns)}{f'; {near}' if near else ''}"
            )


def _checked(rows: datasets.Dataset, data: Data, split: str) -> datasets.Dataset:
    """The rows with the used columns only; every row has all of them."""
    if len(rows) == 0:
        raise UserError(f"split {split!r} is empty")
    _require_columns(data, rows.column_names, f"split {split!r}")
    for name in _needed(data):
        # nan_is_null: a number that a CSV file lacks is read as NaN
        missing = pc.is_null(rows.data.column(name), nan_is_null=True)
        first = pc.index(missing, True).as_py()
        if first >= 0:
            count = pc.sum(missing).as_py()
            raise UserError(f"split {split!r}, row {first + 1}: {name!r} is null ({count} of {len(rows)} rows are)")
    return rows.select_columns(_wanted(data, rows.column_names))


def _limited(rows: datasets.Dataset, limit: int | None, seed: int) -> datasets.Dataset:
    """The first `limit` rows of a seeded shuffle; the rows as they are without a limit."""
    if limit is None or limit >= len(rows):
        return rows
    order = np.random.default_rng(seed).permutation(len(rows))[:limit]
    return rows.select(order, keep_in_memory=True)
