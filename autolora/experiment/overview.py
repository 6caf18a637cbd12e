"""What was read of a recipe's data: ``overview(context, lengths=context.splits)``.

Rows, labels and repeated inputs are those of whole splits. Lengths are of the examples that the model gets, after
`data.limits`, and so are the examples shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from autolora.context.base import Context
from autolora.data.labels import ids, near_twins
from autolora.experiment.fingerprints import Fingerprints, fingerprints
from autolora.experiment.pitfalls import contradiction, imbalance, leakage, missing_classes, spelled_controls
from autolora.tasks.base import Purpose
from autolora.tasks.encoding import columns_of
from autolora.training.batches import Example

SHOWN = 3  # examples of a split


@dataclass(frozen=True)
class Lengths:
    """Tokens of a split's examples as the model gets them, special tokens among them.

    Args:
        examples: How many there are; of the same input one, where the family predicts one output for it.
        median: Tokens.
        percentile_95: 95 % of the examples have so many or fewer.
        longest: Tokens.
        max_length: The recipe's `data.max_length`.
        cut_off: How many examples lost tokens to it; None where the family doesn't say.
        lost: What was lost in the family's own units, words for instance.
    """

    examples: int
    median: float
    percentile_95: int
    longest: int
    max_length: int
    cut_off: int | None
    lost: Mapping[str, int]


@dataclass(frozen=True)
class Sample:
    """An example: the cells of its row by column, and its tokens."""

    row: Mapping[str, Any]
    tokens: Sequence[str]


@dataclass(frozen=True)
class SplitOverview:
    """One split.

    Args:
        rows: That were read and not dropped.
        dropped: How many more lack a cell.
        first_dropped: The place of the first of these.
        used: Rows that `data.limits` leaves.
        inputs: How many different inputs the rows have.
        labelled: Whether the rows have labels.
        labels: Rows (or words) by name of the class, all classes; empty for families whose labels are no names.
        targets: What else the family says of its labels.
        tokens: None where the split is not encoded yet.
        samples: Likewise empty.
    """

    rows: int
    dropped: int
    first_dropped: str
    used: int
    inputs: int
    labelled: bool
    labels: Mapping[str, int]
    targets: Mapping[str, float]
    tokens: Lengths | None = None
    samples: Sequence[Sample] = ()

    def record(self, *, samples: bool = False) -> dict[str, Any]:
        """JSON-able; without the samples there is nothing of the rows in it but the names of classes."""
        return {
            "rows": self.rows,
            "dropped": self.dropped,
            "first_dropped": self.first_dropped or None,
            "used": self.used,
            "different_inputs": self.inputs,
            "labelled": self.labelled,
            "labels": dict(self.labels),
            "targets": dict(self.targets),
            "tokens": None if self.tokens is None else asdict(self.tokens),
            **({"examples": [asdict(sample) for sample in self.samples]} if samples else {}),
        }


@dataclass(frozen=True)
class Overview:
    """All splits, the training split first.

    Args:
        columns: Of the input.
        label: The label's column.
        splits: By name.
        warnings: What one would want to know before one believes a result, a sentence each.
        twins: Names of classes that are nearly the same, a sentence a pair; said already when they were settled.
    """

    columns: Sequence[str]
    label: str
    splits: Mapping[str, SplitOverview]
    warnings: Sequence[str]
    twins: Sequence[str]

    def record(self, *, samples: bool = False) -> dict[str, Any]:
        """JSON-able.

        Args:
            samples: Whether the examples are in it, with their texts.
        """
        return {
            "columns": list(self.columns),
            "label": self.label,
            "splits": {name: split.record(samples=samples) for name, split in self.splits.items()},
            "warnings": [*self.twins, *self.warnings],
        }


def overview(context: Context, lengths: Collection[str] = ()) -> Overview:
    """What was read.

    Args:
        context: Of the recipe.
        lengths: The splits that are encoded, to see how long their examples are and what they look like.

    Raises:
        UserError: The data cannot be read, or not encoded.
    """
    data, nearly_same = context.recipe.data, twins(context.task.names)
    splits = {name: _split(context, name, encode=name in lengths) for name in context.splits}
    found = {name: split for name, (split, _) in splits.items()}
    return Overview(data.columns, data.label, found, _warnings(context, splits), nearly_same)


def twins(names: Sequence[str]) -> list[str]:
    """Of pairs of names that are nearly the same, a sentence each."""
    return [f"the names of the classes {one!r} and {two!r} are nearly the same" for one, two in near_twins(names)]


def lengths_of(context: Context, split: str, examples: Sequence[Example]) -> Lengths:
    """The lengths of a split's examples.

    Args:
        context: Of the recipe.
        split: Its name.
        examples: All of them, as `context.examples` gives them.
    """
    counts = np.fromiter((len(example["input_ids"]) for example in examples), dtype=np.int64, count=len(examples))
    return Lengths(
        examples=len(examples),
        median=float(np.median(counts)),
        percentile_95=int(np.percentile(counts, 95, method="inverted_cdf")),
        longest=int(counts.max()),
        max_length=context.recipe.data.max_length,
        cut_off=context.task.cut_off.get(split),
        lost=context.task.lost(examples),
    )


def _split(context: Context, name: str, *, encode: bool) -> tuple[SplitOverview, Fingerprints]:
    data, report = context.recipe.data, context.splits.reports[name]
    rows = report.all_rows
    labelled = data.label in rows.column_names
    asked = context.family.questions(rows, data)
    prints = fingerprints(rows, data.columns, data.label if labelled else None, _canonical(context), asked)
    examples = context.examples(name) if encode else None
    found = SplitOverview(
        rows=report.rows,
        dropped=report.dropped,
        first_dropped=report.first_dropped,
        used=len(context.splits[name]),
        inputs=prints.distinct,
        labelled=labelled,
        labels=_by_class(context, {label: seen.count for label, seen in report.labels.items()}) if labelled else {},
        targets=context.task.targets(cells[0] for cells in columns_of(rows, [data.label])) if labelled else {},
        tokens=None if examples is None else lengths_of(context, name, examples),
        samples=[] if examples is None else _samples(context, name, examples),
    )
    return found, prints


def _by_class(context: Context, counts: Mapping[str, int]) -> dict[str, int]:
    """Of every class, in the order of the ids; a file may write it as its name and as its id."""
    names = context.task.names
    known = ids(names, context.recipe.data.labels)
    found = dict.fromkeys(names, 0)
    for label, count in counts.items():
        found[names[known[label]]] += count
    return found


def _canonical(context: Context) -> Callable[[Any], Any]:
    """What is the same for two writings of a label: the class's name, or the number."""
    names = context.task.names
    known = ids(names, context.recipe.data.labels)

    def of(label: Any) -> Any:
        if isinstance(label, list):
            return [of(each) for each in label]
        if names:
            return names[known[label]]
        try:
            return float(label)
        except (TypeError, ValueError):
            return label

    return of


def _samples(context: Context, name: str, examples: Sequence[Example]) -> list[Sample]:
    data, rows = context.recipe.data, context.splits[name]
    purpose: Purpose = "train" if name == data.splits.train else "eval"
    wanted = dict.fromkeys((*data.columns, data.label, *([data.category] if data.category else [])))
    columns = [column for column in wanted if column in rows.column_names]
    found: dict[int, Sample] = {}  # of different rows
    for place, example in zip(context.task.sources(rows, purpose), examples, strict=False):
        if len(found) == SHOWN:
            break
        if place not in found:
            cells = rows[place]
            row = {column: cells[column] for column in columns}
            if data.label in row and context.task.names:
                row[data.label] = _canonical(context)(row[data.label])
            found[place] = Sample(row, context.tokenizer.convert_ids_to_tokens(list(example["input_ids"])))
    return list(found.values())


def _warnings(context: Context, splits: Mapping[str, tuple[SplitOverview, Fingerprints]]) -> list[str]:
    data = context.recipe.data
    train, prints = splits[data.splits.train]
    places = {name: context.splits.reports[name].places for name in splits}
    found = []
    if _one_class_a_row(context):
        found += imbalance(train.labels, data.splits.train)
    for name, (split, _) in splits.items():
        found += missing_classes(split.labels, name)
        if split.labels and split.used < split.rows:
            found += missing_classes(_used(context, name), name, limited=split.used, known=split.labels)
    if context.task.one_label:
        found += contradiction(prints, data.splits.train, data.columns, places)
    for name, (_, others) in splits.items():
        if name != data.splits.train:
            labels = context.task.one_label
            found += leakage(others, prints, name, data.splits.train, data.columns, places, labels=labels)
    if not context.family.converses:  # which refuses them
        for name, (split, _) in splits.items():
            if split.tokens is not None:
                rows = context.splits.reports[name].all_rows
                said = [data.label] if split.labelled and not context.task.names else []
                cells = columns_of(rows, [*data.columns, *said])
                found += spelled_controls(cells, context.tokenizer.all_special_tokens, name, places)
    return found


def _one_class_a_row(context: Context) -> bool:
    """Not a tag for every word, most of which are outside of everything."""
    data = context.recipe.data
    return not isinstance(context.splits[data.splits.train][0][data.label], list)


def _used(context: Context, name: str) -> dict[str, int]:
    """Rows (or words) of every class among those that the limits leave."""
    counts: Counter[str] = Counter()
    for (label,) in columns_of(context.splits[name], [context.recipe.data.label]):
        counts.update(label if isinstance(label, list) else [label])
    return _by_class(context, counts)
