"""The names of the classes, settled once: ``names = settle(data.labels, the data's own, the training split's labels)``.

Labels are names, whatever type a file gives them; ``ids(names, data.labels)`` says which class a name is.
`settle_for` does this for the splits of a recipe.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from autolora.console import warn
from autolora.data.splits import Splits
from autolora.errors import UserError
from autolora.recipe.data import HELD_OUT
from autolora.recipe.schema import Data

SHOWN = 20  # names in a message
Order = Callable[[Collection[str]], list[str]]
_WHOLE = re.compile(r"0|-?[1-9][0-9]*")


def settle_for(
    data: Data,
    splits: Mapping[str, Any],
    what: str = "label",
    order: Order | None = None,
    *,
    kept: Sequence[str] | None = None,
) -> list[str]:
    """The names of a recipe's classes, by id; every label of every split is one of them.

    What is held out of the training split has a say: there are as many classes as if it were not.

    Args:
        data: The recipe's section.
        splits: The rows by split, from `autolora.data.load.load_splits`; without the training split only where the
            recipe says the names.
        what: What the labels are called.
        order: The order of names that neither recipe nor data puts in order; `in_order` where it is None.
        kept: The names that were settled before, at training; None where they are settled now.

    Raises:
        UserError: There are fewer than two names, or a label is none of them.
    """
    train = data.splits.train
    own = _own(splits, train, data.label) if train in splits else None
    found = _found(splits, train, data.label) if train in splits else {}
    held = _found(splits, HELD_OUT, data.label) if data.splits.held_out is not None and HELD_OUT in splits else {}
    names = settle(data.labels, own, held | found, data.label, order) if kept is None else list(kept)
    if kept is None and len(found) == 1:
        raise UserError(
            f"column {data.label!r}: all {what}s of the training split are {listed(list(found))!r}, so there is "
            "nothing to learn; look at the data, and at data.label"
        )
    known = ids(names, data.labels)
    for split in splits:
        check(known, names, _found(splits, split, data.label), what)
    for name, twin in near_twins(names):
        warn(f"the {what}s {name!r} and {twin!r} are two classes, and nearly the same name")
    return names


def _own(splits: Mapping[str, Any], split: str, column: str) -> Sequence[str] | None:
    return splits.reports[split].names if isinstance(splits, Splits) else own_names(splits[split], column)


def _found(splits: Mapping[str, Any], split: str, column: str) -> dict[str, str]:
    """The labels of a whole split, each with the place of its first row."""
    if isinstance(splits, Splits):
        report = splits.reports[split]
        return {name: report.places(seen.first) for name, seen in report.labels.items()}
    found: dict[str, str] = {}
    for i, value in enumerate(splits[split][column], 1):
        for name in value if isinstance(value, list) else [value]:
            found.setdefault(name, f"split {split!r}, row {i}")
    return found


def settle(
    given: Sequence[str] | None,
    own: Sequence[str] | None,
    found: Collection[str],
    column: str,
    order: Order | None = None,
) -> list[str]:
    """The names of the classes, by id.

    Args:
        given: The recipe's.
        own: The training data's, where its labels carry names.
        found: The labels of the whole training split.
        column: Where they are, for messages.
        order: The order of names that are only found; `in_order` where it is None.

    Raises:
        UserError: There are fewer than two, or one is there twice.
    """
    names = list(given or own or (order or in_order)(found))
    if len(names) < 2:
        raise UserError(
            f"column {column!r}: all labels of the training split are {listed(names)!r}; "
            "there must be two classes or more"
        )
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise UserError(f"column {column!r}: the data's own names of the classes have {twice!r} twice: {listed(names)}")
    return names


def in_order(names: Collection[str]) -> list[str]:
    """Whole numbers in the order of numbers, if all are; else texts in the order of texts."""
    return sorted(set(names), key=int if all(map(_WHOLE.fullmatch, names)) else None)


def ids(names: Sequence[str], given: Sequence[str] | None = None) -> dict[str, int]:
    """The class of each label that a file may have.

    Args:
        names: By id.
        given: The recipe's: where none of them is a number of any kind, whole numbers are ids, too.
    """
    found = {name: i for i, name in enumerate(names)}
    if given and not any(map(_is_number, names)):
        found |= {str(i): i for i in range(len(names))}
    return found


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def check(known: Mapping[str, int], names: Sequence[str], found: Mapping[str, str], what: str = "label") -> None:
    """Check that every label of a split is one of the names.

    Args:
        known: From `ids`.
        names: By id.
        found: The labels, each with the place of its first row.
        what: What they are called.

    Raises:
        UserError: One is none of them; the message has its place.
    """
    for name, place in found.items():
        if name not in known:
            raise UserError(f"{place}: the {what} {name!r} is none of the {len(names)} {what}s: {listed(names)}")


def listed(names: Sequence[str]) -> str:
    """The names, for a message."""
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def near_twins(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names that differ only in blanks, in case or in how their letters or their number is written, as pairs."""
    before: dict[Hashable, str] = {}
    for name in names:
        plain = _plain(name)
        if plain in before:
            yield before[plain], name
        before.setdefault(plain, name)


def _plain(name: str) -> str | Decimal:
    """What a name has in common with its near twins."""
    plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    try:
        number = Decimal(plain)  # not a float, for which long ids are the same
    except InvalidOperation:
        return plain
    return number if number.is_finite() else plain


def own_names(rows: Any, column: str) -> list[str] | None:
    """The names that a column of a `datasets.Dataset` carries: of a ClassLabel, or of a list of them."""
    feature = getattr(rows, "features", {}).get(column)
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return None if names is None else [str(name) for name in names]
