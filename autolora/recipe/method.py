"""Methods as words on a command line: ``parse_method("lora:4")`` and ``label(method)``.

NAME[:SIZE][:KEY=VALUE]…        autolora, lora:4, svd:16, full:learning_rate=1e-5, squeeze:k=8:at=0.5:budget=rank=1
"""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import ValidationError

from autolora.errors import UserError
from autolora.recipe.schema import MethodSettings, Recipe, Search
from autolora.recipe.stages import BudgetSettings
from autolora.registry import METHODS
from autolora.words import did_you_mean

SEARCHED = ("autolora", "no-constraint", "sigmoid", "no-meta")  # at most search.rank components a layer
SIZED: dict[str, int | None] = {"lora": None, "lora-grid": 16, "svd": None}  # method.size is a rank; its default
SQUEEZES = ("squeeze", "squeeze-uniform", "squeeze-shuffled", "fisher-scratch")  # begin at rank k: method.size
BUDGETED = ("autolora", *SQUEEZES, "lora-matched", "random", "adalora", "svd", "eva")  # take method.budget


def parse_method(text: str) -> MethodSettings:
    """The method that a word means.

    Args:
        text: A method's name, with settings behind colons: ``lora:4``, ``lora:4:learning_rate=1e-4``.

    Raises:
        UserError: There is none; the message has the nearest name.
    """
    name, *parts = text.strip().split(":")
    if name not in METHODS:
        near = did_you_mean(name, METHODS)
        raise UserError(
            f"--methods: there is no method {name!r}{f'; {near}' if near else ''}; there is: {', '.join(METHODS)}"
        )
    values: dict[str, Any] = {"name": name}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            key, value = "size", part
        if key == "k" and name in SQUEEZES:
            key = "size"
        values[key] = budget_words(value) if key == "budget" else _scalar(value)
    try:
        return MethodSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(
            f"--methods: {text!r}: {where}: {first['msg'].lower()}; write NAME:SIZE, as in lora:4"
        ) from error


def budget_words(text: str) -> dict[str, Any]:
    """A budget as it is written on a command line, unchecked: ``fraction=0.25``, ``rank=1``; a number is a fraction.

    Args:
        text: ``KIND=VALUE``, or ``VALUE``.
    """
    kind, equals, value = text.partition("=")
    return {kind: _scalar(value)} if equals else {"fraction": _scalar(text)}


def _scalar(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def parse_methods(text: str) -> list[MethodSettings]:
    """Several methods, each once.

    Args:
        text: Words for `parse_method`, separated by commas.

    Raises:
        UserError: As `parse_method`.
    """
    methods = [parse_method(word) for word in text.split(",") if word.strip()]
    if not methods:
        raise UserError("--methods: name at least one method, as in --methods autolora,lora:4")
    return list(dict.fromkeys(methods))


def label(method: MethodSettings) -> str:
    """The shortest word that means the method."""
    size = "" if method.size is None else f":{'k=' if method.name in SQUEEZES else ''}{method.size}"
    at = "" if method.at is None else f":at={method.at:g}"
    budget = "".join(f":budget={name}={shortest(value)}" for name, value in method.budget.given.items())
    rate = "" if method.learning_rate is None else f":learning_rate={method.learning_rate:g}"
    return f"{method.name}{size}{at}{budget}{rate}"


def shortest(value: float) -> str:
    """A number as people write it, whole numbers with every digit.

    Args:
        value: As a budget has it.
    """
    return str(value) if isinstance(value, int) else f"{value:g}"


def budget_of(recipe: Recipe) -> BudgetSettings:
    """How large the result of a recipe's method may be: what the method says, else `ranks.budget`, else nothing.

    Args:
        recipe: With the method in it.
    """
    return recipe.method.budget if recipe.method.budget.given else recipe.ranks.budget


def largest_rank(method: MethodSettings, search: Search) -> tuple[str, int] | None:
    """The field that says the highest rank that a method may give a layer, and that rank; None where no field does.

    Args:
        method: A recipe's.
        search: Likewise.
    """
    if method.name in SEARCHED:
        return "search.rank", search.rank
    if method.name in (*SIZED, *SQUEEZES):
        size = method.size or SIZED.get(method.name)
        return ("search.rank", search.rank) if size is None else ("method.size", size)
    return None


def parse_seeds(text: str) -> list[int]:
    """The seeds that a text means, each once.

    Args:
        text: ``0-4`` or ``0,3,7-9``.

    Raises:
        UserError: It is anything else.
    """
    seeds: list[int] = []
    for word in text.split(","):
        first, dash, last = word.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise UserError(f"--seeds: expected whole numbers and ranges, as in 0-4 or 0,3,7-9, got {text!r}")
        seeds += range(int(first), int(last if dash else first) + 1)
    return list(dict.fromkeys(seeds))
