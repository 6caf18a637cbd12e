"""The settings of a sweep: ``parse_sweep(["search.rank=4,8,16", "seed=0-4"])`` gives a `Sweep`, whose points are tried.

A value is written as after ``--set``, and typed as YAML. Several stand in a list; of a field that takes whole numbers,
``0-4`` is a range with both its ends. The points are the Cartesian product of the fields' values, the last field the
quickest. ``seed`` is no setting of a point: it says over which seeds a comparison goes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, get_args

from autolora.errors import UserError
from autolora.recipe.fields import MAX_SEED
from autolora.recipe.load import nearest_path
from autolora.recipe.messages import dotted_names, section_at, show
from autolora.recipe.method import MAX_SEEDS, parse_seeds, shortest
from autolora.recipe.plain_yaml import values as values_of

MAX_POINTS = 1000  # each is a run for every method and seed
SEED = "seed"
_EXAMPLE = "write KEY=VALUE,VALUE,…, as in search.rank=4,8,16 or seed=0-4"
_SAME_SCALE = "it changes what is measured, and scores of different measures cannot be compared"
_REFUSED = {  # fields that are no setting of an experiment, by their beginning
    "name": "it is what the experiment is called",
    "description": "it has no bearing on the result",
    "task": _SAME_SCALE,
    "method": "methods are compared by --methods, as in --methods lora:4,lora:8; of their rates, sweep "
    "retrain.weights.learning_rate",
    "data.root": "it says where files lie on this machine",
    **dict.fromkeys(("data.hub", "data.config", "data.revision", "data.path", "data.generated"), _SAME_SCALE),
    **dict.fromkeys(("data.label", "data.labels", "data.category", "data.missing"), _SAME_SCALE),
    "data.splits.held_out": _SAME_SCALE,
    "data.splits.eval": _SAME_SCALE,
    "data.evaluation": _SAME_SCALE,
    "data.limits.eval": _SAME_SCALE,
    "eval.metrics": _SAME_SCALE,
    "eval.positive": _SAME_SCALE,
    "eval.submission": "it has no bearing on the result",
    "search.checkpoint_every": "it has no bearing on the result",
    "search.log_every": "it has no bearing on the result",
    "retrain.checkpoint_every": "it has no bearing on the result",
    "retrain.log_every": "it has no bearing on the result",
}


@dataclass(frozen=True)
class Point:
    """Settings that go together.

    Args:
        settings: Texts by dotted field, each as after ``--set KEY=``.
    """

    settings: tuple[tuple[str, str], ...] = ()

    @property
    def overrides(self) -> tuple[str, ...]:
        """``search.rank=4``, for each."""
        return tuple(f"{field}={text}" for field, text in self.settings)

    @property
    def label(self) -> str:
        """What tables and messages call it; "" of no settings."""
        return " ".join(self.overrides)

    @property
    def values(self) -> dict[str, Any]:
        """By dotted field, as YAML has them."""
        return {field: values_of(text) for field, text in self.settings}


@dataclass(frozen=True)
class Sweep:
    """What is varied.

    Args:
        fields: Texts of the values, by dotted field, in the order that was asked for.
        seeds: What ``seed`` was asked for; None where it was not.
    """

    fields: Mapping[str, tuple[str, ...]]
    seeds: tuple[int, ...] | None = None

    @property
    def points(self) -> list[Point]:
        """The Cartesian product."""
        columns = [[(field, text) for text in texts] for field, texts in self.fields.items()]
        return [Point(settings) for settings in product(*columns)]


def parse_sweep(texts: Sequence[str]) -> Sweep:
    """What ``--sweep`` options mean, one for each field.

    Args:
        texts: ``KEY=VALUE,VALUE,…``.

    Raises:
        UserError: With all that is wrong in them, a line each.
    """
    found: dict[str, list[Any]] = {}
    faults: list[str] = []
    for text in texts:
        field, equals, written = (part.strip() for part in text.partition("="))
        if not equals or not field:
            faults.append(f"--sweep {text}: {_EXAMPLE}")
        elif field in found:
            faults.append(f"--sweep {text}: {field} is given twice; put all its values into one list")
        else:
            found[field] = []
            try:
                found[field] = _listed(written)
            except ValueError as error:
                faults.append(f"--sweep {text}: the values are no YAML ({error}); put text in quotes")
    return _sweep(found, faults)


def swept(sweep: Mapping[str, Iterable[object]]) -> Sweep:
    """The same from Python: ``{"search.rank": [4, 8, 16], "seed": range(5)}``.

    Args:
        sweep: Values by dotted field, with ``.`` or ``__`` between its parts; a text is one of ``parse_sweep``.

    Raises:
        UserError: With all that is wrong in it, a line each.
    """
    found = {}
    for name, values in sweep.items():
        field = name.replace("__", ".")
        found[field] = _listed(values) if isinstance(values, str) else [*values]
    return _sweep(found, [])


def asked_sweep(sweep: Sweep, *, select: bool, tuned: bool) -> None:
    """Make sure that what is asked for goes together.

    Args:
        sweep: What is varied.
        select: Whether a point is to be chosen.
        tuned: Whether a learning rate is.

    Raises:
        UserError: It does not.
    """
    if select and len(sweep.points) < 2:
        raise UserError("--select: chooses among the settings of a --sweep; give two or more, as in search.rank=4,8,16")
    if select and tuned:
        raise UserError(
            "--select and --tune choose on the same rows, one after the other would choose twice; sweep "
            "retrain.weights.learning_rate with the other fields instead of --tune"
        )


def seeds_of(sweep: Sweep, seeds: str | None) -> list[int]:
    """The seeds of a comparison.

    Args:
        sweep: What is varied, which may say them.
        seeds: What the option for them says; None where it was not given.

    Raises:
        UserError: Both say it.
    """
    if sweep.seeds is None:
        return parse_seeds("0-4" if seeds is None else seeds)
    if seeds is not None:
        raise UserError("--seeds and --sweep seed=… say the same; leave one out")
    return [*sweep.seeds]


def _listed(text: str) -> list[Any]:
    values = values_of(f"[{text}]")
    return [*values]


def _sweep(found: Mapping[str, Sequence[Any]], faults: list[str]) -> Sweep:
    known = dotted_names()
    fields: dict[str, tuple[str, ...]] = {}
    for field, values in found.items():
        if said := _fault(field, known):
            faults.append(f"--sweep {field}: {said}")
            continue
        try:
            each = [one for value in values for one in (_ranged(value) if _whole(field) else [value])]
        except UserError as error:
            faults.append(f"--sweep {field}: {error}")
            continue
        texts = [written(value) for value in each]
        if twice := next((text for i, text in enumerate(texts) if text in texts[:i]), None):
            faults.append(f"--sweep {field}: {twice} is given twice; leave one out")
        elif len(texts) < 1:
            faults.append(f"--sweep {field}: it has no value; {_EXAMPLE}")
        fields[field] = tuple(texts)
    seeds = None if faults else _seeds(fields.pop(SEED, None), faults)
    count = 1
    for texts_ in fields.values():
        count *= len(texts_)
    if count > MAX_POINTS:
        faults.append(f"--sweep: {count} points are more than {MAX_POINTS}, each a run for every method and seed")
    if faults:
        raise UserError("\n".join(faults))
    return Sweep(fields, seeds)


def _fault(field: str, known: Sequence[str]) -> str:
    if field not in known:
        hint = nearest_path(field, known)
        return f"unknown key{f' ({hint})' if hint else ''}"
    refused = next((why for start, why in _REFUSED.items() if field == start or field.startswith(f"{start}.")), "")
    if refused:
        return f"cannot be swept: {refused}"
    if section_at(field.split(".")) is not None:
        return f"it is a section; sweep one of its fields, as in {_first(field, known)}=…"
    return ""


def _first(section: str, known: Sequence[str]) -> str:
    return next(name for name in known if name.startswith(f"{section}."))


def _seeds(texts: Sequence[str] | None, faults: list[str]) -> tuple[int, ...] | None:
    if texts is None:
        return None
    wrong = [text for text in texts if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > MAX_SEED]
    faults += [f"--sweep seed: a seed is a whole number from 0 to {MAX_SEED}, got {text}" for text in wrong]
    if len(texts) > MAX_SEEDS:
        faults.append(f"--sweep seed: at most {MAX_SEEDS} seeds, as each is a run of every method, got {len(texts)}")
    return None if wrong else tuple(map(int, texts))


def _whole(field: str) -> bool:
    """Whether a field takes whole numbers."""
    path = field.split(".")
    section = section_at(path[:-1])
    assert section is not None
    return int in _kinds(section.model_fields[path[-1]].annotation)


def _kinds(annotation: Any) -> Iterator[Any]:
    parts = get_args(annotation)
    if not parts:
        yield annotation
    for part in parts:
        yield from _kinds(part)


def _ranged(value: object) -> list[object]:
    """The whole numbers of ``0-4``; anything else as it is."""
    match = re.fullmatch(r"([0-9]{1,10})-([0-9]{1,10})", value.strip()) if isinstance(value, str) else None
    if match is None:
        return [value]
    first, last = int(match[1]), int(match[2])
    if first > last:
        raise UserError(f"a range goes from its smaller end to its larger, got {show(value)}")
    if last - first >= MAX_POINTS:
        raise UserError(f"at most {MAX_POINTS} values, as each is a run of every method, got {show(value)}")
    return [*range(first, last + 1)]


def written(value: object) -> str:
    """A value as ``--set`` reads it back, the same text for the same value.

    Args:
        value: Of YAML, or of Python.
    """
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int | float):
        return shortest(value)
    if isinstance(value, str):
        try:
            same = values_of(value) == value and not re.search(r"[\[\]{},\"'#]|^\s|\s$", value)
        except ValueError:
            same = False
        return value if same else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)
