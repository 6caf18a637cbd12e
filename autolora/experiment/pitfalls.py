"""What one would want to know of the data before one believes a result, a sentence each; none where all is well."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from autolora.data.labels import listed
from autolora.experiment.fingerprints import Fingerprints, contradictions, shared

MANY_TIMES = 10  # the rows of the smallest class: so large is the largest one of an imbalanced split, at least
MOST = 0.9  # of all rows; or so large
Places = Mapping[str, Callable[[int], str]]  # by split, the file and line of a row, from 0


def imbalance(labels: Mapping[str, int], split: str) -> list[str]:
    """Whether one class has `MANY_TIMES` as many rows as another that has some, or `MOST` of all.

    Args:
        labels: Rows by class.
        split: Its name.
    """
    there = {name: count for name, count in labels.items() if count}
    if len(there) < 2:
        return []
    large, small = max(there, key=lambda name: there[name]), min(there, key=lambda name: there[name])
    total = sum(there.values())
    if there[large] < MANY_TIMES * there[small] and there[large] < MOST * total:
        return []
    return [
        f"the classes of split {split!r} are imbalanced: {large!r} has {there[large]} of {total} rows "
        f"({there[large] / total:.0%}), and {small!r} has {there[small]}"
    ]


def missing_classes(
    labels: Mapping[str, int], split: str, *, limited: int | None = None, known: Mapping[str, int] | None = None
) -> list[str]:
    """Whether a class is in no row of a split.

    Args:
        labels: Rows by class, all classes; empty where there are none.
        split: Its name.
        limited: To so many rows, where these are counted and not all of them.
        known: Rows by class of the whole split, whose missing classes have been told.
    """
    missing = [name for name, count in labels.items() if not count and (known is None or known[name])]
    if not missing or len(missing) == len(labels):
        return []
    one = len(missing) == 1
    what = f"the class {missing[0]!r} is" if one else f"{len(missing)} classes are"
    where = f"split {split!r}" if limited is None else f"the {limited} rows that data.limits leaves of split {split!r}"
    return [f"{what} in no row of {where}{'' if one else f': {listed(missing)}'}"]


def contradiction(prints: Fingerprints, split: str, columns: Sequence[str], places: Places) -> list[str]:
    """Whether rows of a split have the same input and other labels.

    Args:
        prints: Of its rows.
        split: Its name.
        columns: Of the input.
        places: Of its rows.
    """
    found = contradictions(prints)
    if found is None:
        return []
    one, other = (places[split](row) for row in found.first)
    return [
        f"{found.rows} rows of split {split!r} contradict each other: the same {_input(columns)}, another label "
        f"({found.inputs} {'input' if found.inputs == 1 else 'different inputs'}); first {one} and {other}"
    ]


def leakage(
    evaluated: Fingerprints,
    trained: Fingerprints,
    split: str,
    train: str,
    columns: Sequence[str],
    places: Places,
    *,
    labels: bool,
) -> list[str]:
    """Whether inputs that are evaluated on are trained on, too.

    Args:
        evaluated: Of an evaluation split.
        trained: Of the training split.
        split: The evaluation split's name.
        train: The training split's.
        columns: Of the input.
        places: Of the rows of both.
        labels: Whether an input has one right label, so that another one is worth a word.
    """
    found = shared(evaluated, trained)
    if found is None:
        return []
    one, other = places[split](found.first[0]), places[train](found.first[1])
    has, of_them = ("has", "") if found.rows == 1 else ("have", f"{found.other_label} of them ")
    with_other = f", {of_them}with another label" if labels and found.other_label else ""
    return [
        f"{found.rows} of {len(evaluated.inputs)} rows of split {split!r} {has} the same {_input(columns)} as a "
        f"training row{with_other}; first {one} and {other}"
    ]


def spelled_controls(cells: Iterator[tuple[Any, ...]], tokens: Sequence[str], split: str, places: Places) -> list[str]:
    """Whether texts hold what the tokenizer reads as one of its own control tokens, as ``<s>`` or ``[SEP]``.

    Args:
        cells: The texts of each row, or lists of them.
        tokens: The tokenizer's, as texts.
        split: Its name.
        places: Of its rows.
    """
    plain = [re.escape(token) for token in tokens if len(token) > 2]  # a dot may be one, and is in every text
    if not plain:
        return []
    any_of_them = re.compile("|".join(plain))
    found = [(row, match[0]) for row, texts in enumerate(cells) if (match := any_of_them.search(repr(texts)))]
    if not found:
        return []
    (row, token), have = found[0], "row of split {!r} has" if len(found) == 1 else "rows of split {!r} have"
    return [
        f"{len(found)} {have.format(split)} a text that the tokenizer reads as a control token of its own, such as "
        f"{token!r}; first {places[split](row)}"
    ]


def _input(columns: Sequence[str]) -> str:
    return " and ".join(columns)
