"""The examples of a recipe, as `datasets.Dataset`s of text: ``load_splits(recipe.data, recipe.seed, family)``.

They come from local files, the Hugging Face hub, the package's own grammar or a planted model's teacher. Only the
columns that are used are kept: text, label, ``idx`` and what the task family reads beside, if there is one. Empty
splits, missing columns and rows without text or label are UserErrors; but an evaluation split may have no labels at
all. `content_hash` says whether two splits hold the same rows.

Where the recipe holds out a part of the training split, that part is a split, too (`autolora.data.held_out`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import datasets
import numpy as np

from autolora.console import warn
from autolora.data.cells import NESTED, Kind, cell
from autolora.data.held_out import hold_out, part_of
from autolora.data.sources import Open, Opened, open_source
from autolora.data.splits import Place, Report, Splits
from autolora.data.spool import Column, spool
from autolora.errors import UserError
from autolora.recipe.data import HELD_OUT
from autolora.recipe.schema import Data

NO_LABEL = "-1"  # how benchmarks write that a label is withheld
INDEX = "idx"  # GLUE's row number, kept where there is one
HASHED_AT_ONCE = 10_000  # rows that are one piece of what is hashed
READ_AT_ONCE = 250  # of which so many are in memory


class Family(Protocol):
    """What a task family says of its columns (see `autolora.tasks.base.Task`)."""

    @property
    def named_labels(self) -> bool:
        """Whether labels are names."""

    def kinds(self, data: Data) -> Mapping[str, Kind]:
        """What the cells of a column may be; of a column that the recipe does not name, too, if the family reads it."""

    def check_rows(self, rows: Any, data: Data, place: Place) -> None:
        """Refuse rows that the family cannot use."""

    def groups(self, rows: Any, data: Data) -> Sequence[int] | None:
        """Which example each row of an evaluation split belongs to, from 0 on; None where each is one."""

    def bundles(self, rows: Any, data: Data) -> Sequence[int] | None:
        """Which rows have to stay together when a part is held out; None where those of one input have."""


def load_splits(
    data: Data,
    seed: int,
    family: Family,
    *,
    only: Sequence[str] | None = None,
    labelled: bool = True,
    model: str = "",
) -> Splits:
    """The training split and each evaluation split by name, at most as many rows as `data.limits` says.

    A part that the recipe holds out is not in the training split, and is a split of its own.

    Args:
        data: The recipe's section.
        seed: Of the shuffle that comes before a limit.
        family: What the columns must hold.
        only: Leave out the other splits.
        labelled: Whether labels are read; where they are not, they may be missing. The training split must have some;
            an evaluation split where no row has one is read without.
        model: The name that the model is loaded by; planted data is labelled by its teacher.

    Raises:
        UserError: Something is not there, or is not as the family needs it.
    """
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what goes wrong is raised, once
    held = [HELD_OUT] if data.splits.held_out is not None else []
    wanted = list(dict.fromkeys((data.splits.train, *data.splits.eval, *held) if only is None else only))
    names = list(dict.fromkeys(data.splits.train if name in held else name for name in wanted))
    source = _openers(data, names, model)
    rows: dict[str, Any] = {}
    reports: dict[str, Report] = {}
    for name in names:
        train = name == data.splits.train
        named = data.evaluation is not None and data.evaluation.label is not None
        opened = source[name](_columns(data.source_of(name), family, labelled, absent=not train and not named))
        has_labels = labelled and (train or _has_labels(opened, data, family, rows, reports))
        if labelled and not has_labels:
            warn(f"split {name!r} has no labels ({data.label!r}): it is predicted, not scored")
            opened = source[name](_columns(data.source_of(name), family, labelled=False))
        counted = data.label if has_labels and family.named_labels else None
        found, report = spool(opened.parts, opened.columns, drop=data.missing == "drop", names_in=counted)
        report.labelled = has_labels
        report.names = opened.names.get(data.label) if counted else None
        report.all_rows = found
        _check_count(report, name)
        if train and data.limits.characters is not None:
            found, report = _short(found, report, data, family, counted)
        family.check_rows(found, data, report.places)
        rows[name] = _limited(found, data.limits.train, seed) if train else limited_examples(found, data, family, seed)
        reports[name] = report
    if held and data.splits.train in rows:
        _divide(rows, reports, data, seed, family)
    return Splits({name: rows[name] for name in wanted}, {name: reports[name] for name in wanted})


def _openers(data: Data, names: Sequence[str], model: str) -> dict[str, Callable[[Sequence[Column]], Opened]]:
    """What opens each split, which may lie in two data sets; its columns are called as in the training split's."""
    found: dict[str, Callable[[Sequence[Column]], Opened]] = {}
    for source in (data, *([data.source_of("")] if data.evaluation else [])):
        there = [name for name in names if data.source_of(name) == source]
        if there:
            opens = open_source(source, there, model)
            found |= {name: partial(_opened, opens, name, source, data) for name in there}
    return found


def _opened(opens: Open, split: str, source: Data, data: Data, columns: Sequence[Column]) -> Opened:
    opened = opens(split, columns)
    if source is data:
        return opened
    called = dict(zip((*source.columns, source.label), (*data.columns, data.label), strict=True))
    kept = [replace(column, name=called.get(column.name, column.name)) for column in opened.columns]
    return Opened(opened.parts, kept, {called.get(name, name): own for name, own in opened.names.items()})


def _divide(rows: dict[str, Any], reports: dict[str, Report], data: Data, seed: int, family: Family) -> None:
    """Take the held-out part out of the training split."""
    train = data.splits.train
    whole, report = reports[train].all_rows, reports[train]
    division = hold_out(whole, _first(len(whole), data.limits.train, seed), data, family, seed)
    column = data.label if report.labelled and family.named_labels else None
    reports[train] = part_of(report, whole, division.rest, column)
    reports[HELD_OUT] = replace(part_of(report, whole, division.held, column), dropped=0, first_dropped="")
    rows[train] = whole.select(division.train, keep_in_memory=True)
    rows[HELD_OUT] = limited_examples(reports[HELD_OUT].all_rows, data, family, seed)


def content_hash(dataset: datasets.Dataset) -> str:
    """SHA-256 over the rows in their order; the same for the same rows, wherever they were read from.

    Args:
        dataset: A split, as `load_splits` gives it.
    """
    names = sorted(dataset.column_names)
    digest = hashlib.sha256(json.dumps([names, len(dataset)]).encode())
    for start in range(0, len(dataset), HASHED_AT_ONCE):
        digest.update(b"[")
        for i, name in enumerate(names):
            digest.update(b", [" if i else b"[")
            column = dataset.with_format(None).select_columns([name])
            for text in _pieces(column, name, start, min(start + HASHED_AT_ONCE, len(dataset))):
                digest.update(text)
            digest.update(b"]")
        digest.update(b"]")
    return digest.hexdigest()


def _pieces(column: datasets.Dataset, name: str, begin: int, end: int) -> Iterator[bytes]:
    """The JSON of a list of cells, without its brackets."""
    for start in range(begin, end, READ_AT_ONCE):
        cells = column[start : min(start + READ_AT_ONCE, end)][name]
        text = json.dumps(cells, default=repr)[1:-1]
        yield (f", {text}" if start > begin else text).encode()


def _has_labels(
    opened: Opened, data: Data, family: Family, rows: Mapping[str, Any], reports: Mapping[str, Report]
) -> bool:
    """Whether any row of an evaluation split has a label. It is looked for up to the first that has one."""
    names = [column.name for column in opened.columns]
    if data.label not in names:
        return False
    at, kind = names.index(data.label), family.kinds(data).get(data.label, "name")
    train = reports.get(data.splits.train)
    known = {*(data.labels or ()), *(opened.names.get(data.label) or ()), *(train.labels if train else ())}
    if kind == "name" and train and not family.named_labels:
        known |= set(rows[data.splits.train].unique(data.label))
    for part in opened.parts:
        for _, cells in part.rows():
            try:
                found = cell(cells[at], kind)
            except UserError:
                return True  # whatever it is; it is refused where the rows are read
            several = found if isinstance(found, list) else [found]
            if any(name is not None and (name != NO_LABEL or kind == "any" or name in known) for name in several):
                return True
    return False


def _columns(data: Data, family: Family, labelled: bool, absent: bool = False) -> list[Column]:
    """What is kept of every row. Without labels, the label's column is left out."""
    kinds = family.kinds(data)
    wanted = [*data.columns, *([data.label] if labelled else []), *([data.category] if data.category else [])]
    columns = [
        Column(name, kinds.get(name, "name"), absent=absent and name == data.label) for name in dict.fromkeys(wanted)
    ]
    columns += [Column(name, kinds[name], optional=True) for name in kinds if name not in (*wanted, data.label)]
    return columns if INDEX in wanted else [*columns, Column(INDEX, "name", optional=True)]


def _check_count(report: Report, split: str) -> None:
    if not report.rows:
        dropped = f": all of its {report.dropped} rows lack a cell" if report.dropped else ""
        raise UserError(f"split {split!r} is empty{dropped}")
    if report.dropped:
        warn(
            f"split {split!r}: {report.dropped} of {report.dropped + report.rows} rows are dropped, since a cell is "
            f"missing; the first: {report.first_dropped}"
        )


def _short(
    rows: datasets.Dataset, report: Report, data: Data, family: Family, counted: str | None
) -> tuple[datasets.Dataset, Report]:
    """The training rows that `data.limits.characters` leaves."""
    limit = data.limits.characters or 0
    names, kinds = list(dict.fromkeys((*data.columns, data.label))), family.kinds(data)
    as_json = [kinds.get(name) in NESTED for name in rows.select_columns(names).column_names]
    batches = (batch.values() for batch in rows.select_columns(names).iter(READ_AT_ONCE))
    raw = (cells for columns in batches for cells in zip(*columns, strict=True))
    cells = ([json.loads(c) if j and c is not None else c for c, j in zip(each, as_json, strict=True)] for each in raw)
    kept = [row for row, each in enumerate(cells) if sum(map(_characters, each)) + len(each) - 1 <= limit]
    left_out = len(rows) - len(kept)
    if not kept:
        raise UserError(f"data.limits.characters: none of {len(rows)} training rows has {limit} characters or fewer")
    if left_out:
        warn(f"{left_out} of {len(rows)} training rows have more than {limit} characters and are left out")
    part = part_of(report, rows, kept, counted)
    return part.all_rows, part


def _characters(cell: Any) -> int:
    """Of a text, or of all texts in a list or a mapping."""
    if isinstance(cell, Mapping):
        return sum(map(_characters, cell.values()))
    return sum(map(_characters, cell)) if isinstance(cell, list) else len(str(cell or ""))


def limited_examples(rows: datasets.Dataset, data: Data, family: Family, seed: int) -> datasets.Dataset:
    """The rows of as many examples as `data.limits.eval` says, the first of a seeded shuffle: each with all its rows.

    Args:
        rows: Of an evaluation split, all of them.
        data: The recipe's section.
        family: Says which rows are one example.
        seed: Of the shuffle.
    """
    limit = data.limits.eval
    groups = None if limit is None else family.groups(rows, data)
    if limit is None or groups is None or limit >= len(set(groups)):
        return rows if groups is not None else _limited(rows, limit, seed)
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    chosen = np.random.default_rng(seed).permutation(len(members))[:limit]
    return rows.select([row for group in chosen for row in members[int(group)]], keep_in_memory=True)


def _limited(rows: datasets.Dataset, limit: int | None, seed: int) -> datasets.Dataset:
    """The first `limit` rows of a seeded shuffle; the rows as they are without a limit."""
    if limit is None or limit >= len(rows):
        return rows
    return rows.select(_first(len(rows), limit, seed), keep_in_memory=True)


def _first(count: int, limit: int | None, seed: int) -> Sequence[int]:
    """The positions that a limit leaves of so many rows."""
    if limit is None or limit >= count:
        return range(count)
    return [int(row) for row in np.random.default_rng(seed).permutation(count)[:limit]]
