"""Methods as words on a command line: ``parse_method("lora:4")`` and ``label(method)``.

NAME[:SIZE][:KEY=VALUE]…        autolora, lora:4, svd:16, full:learning_rate=1e-5, lora:1:targets=query+value,
                                squeeze:k=8:at=0.5:budget=rank=1
"""

from __future__ import annotations

import re
from typing import Any

from autolora.errors import Fault, UserError
from autolora.recipe.fields import MAX_SEED
from autolora.recipe.messages import method_faults, show
from autolora.recipe.plain_yaml import values
from autolora.recipe.schema import MethodSettings, Recipe, Search
from autolora.recipe.stages import BUDGETS, BudgetSettings
from autolora.registry import METHODS
from autolora.words import did_you_mean

SEARCHED = ("autolora", "no-constraint", "sigmoid", "no-meta")  # at most search.rank components a layer
VARIANTS = ("rslora", "dora", "pissa", "olora", "lora-fa", "lora-plus")  # LoRA at one rank, in another way
# method.size is a rank; its default
SIZED: dict[str, int | None] = {"lora": None, "lora-grid": 16, "svd": None, **dict.fromkeys(VARIANTS)}
RATIO = 16.0  # of lora-plus, method.ratio: 2⁴, what its authors recommend
SQUEEZES = ("squeeze", "squeeze-uniform", "squeeze-shuffled", "fisher-scratch")  # begin at rank k: method.size
BUDGETED = ("autolora", *SQUEEZES, "lora-matched", "random", "adalora", "svd", "eva")  # take method.budget
MAX_SEEDS = 1000  # of a comparison
_EXAMPLES = "write NAME:SIZE, as in lora:4, or NAME:KEY=VALUE, as in lora:4:learning_rate=1e-4 or squeeze:budget=rank=1"


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
    settings: dict[str, Any] = {"name": name}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            key, value = "size", part
        if key == "k" and name in SQUEEZES:
            key = "size"
        if key in settings:
            raise UserError(f"--methods: {text!r}: {key} is said twice")
        if not value:
            raise UserError(f"--methods: {text!r}: {key} has no value; {_EXAMPLES}")
        settings[key] = _value(key, value, text)
    if faults := method_faults(settings):
        said = "; ".join(_said(fault) for fault in faults)
        raise UserError(f"--methods: {show(text)}: {said}; {_EXAMPLES}")
    return MethodSettings.model_validate(settings)


def _said(fault: Fault) -> str:
    return f"{fault.field.removeprefix('method.')}: {fault.message}{f' ({fault.hint})' if fault.hint else ''}"


def _value(key: str, value: str, text: str) -> Any:
    """A setting's value as it is written in a word."""
    if key != "budget":
        return _targets(value) if key == "targets" else _scalar(value)
    try:
        return budget_words(value)
    except UserError as error:
        raise UserError(f"--methods: {text!r}: {error}") from None


def budget_words(text: str) -> dict[str, Any]:
    """A budget as it is written on a command line: ``fraction=0.25``, ``rank=1``; a number alone is a fraction.

    Args:
        text: ``KIND=VALUE``, or ``VALUE``.

    Returns:
        The value by its kind; whether it is a right one is not checked.

    Raises:
        UserError: There is no such kind of budget, or no value.
    """
    kind, equals, number = text.partition("=")
    if not equals:
        kind, number = "fraction", text
    if kind not in BUDGETS or not number:
        near = did_you_mean(kind, BUDGETS)
        said = f"there is no budget {kind!r}{f'; {near}' if near else ''}" if kind not in BUDGETS else "it has no value"
        raise UserError(
            f"budget: {said}; write budget=fraction=0.25, budget=parameters=9216, budget=rank=1 or budget=tolerance=0.1"
        )
    return {kind: _scalar(number)}


def _scalar(text: str) -> Any:
    try:
        return values(text)
    except ValueError:
        return text


def _targets(text: str) -> Any:
    """``all-linear``, or names of layers with a plus between them."""
    return text if text == "all-linear" else text.split("+")


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
    at = "" if method.at is None else f":at={shortest(method.at)}"
    budget = "".join(f":budget={name}={shortest(value)}" for name, value in method.budget.given.items())
    rate = "" if method.learning_rate is None else f":learning_rate={shortest(method.learning_rate)}"
    ratio = "" if method.ratio is None else f":ratio={shortest(method.ratio)}"
    targets = method.targets if isinstance(method.targets, str) else "+".join(method.targets or ())
    return f"{method.name}{size}{at}{budget}{rate}{ratio}{f':targets={targets}' if targets else ''}"


def shortest(value: float) -> str:
    """A number as people write it, with every digit that it needs to be read back as it is.

    Args:
        value: As a recipe has it.
    """
    short = str(value) if isinstance(value, int) else f"{value:g}"
    return short if float(short) == value else repr(value)


def budget_of(recipe: Recipe) -> BudgetSettings:
    """How large the result of a recipe's method may be: what the method says, else `ranks.budget`, else nothing.

    Args:
        recipe: With the method in it.
    """
    return recipe.method.budget if recipe.method.budget.given else recipe.ranks.budget


def beginning_share(search: Search, method: MethodSettings) -> float:
    """The share of the training that a squeeze begins with: what the method says, else `search.at`.

    Args:
        search: A recipe's.
        method: Likewise.
    """
    return search.at if method.at is None else method.at


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


def target_limit(method: MethodSettings, search: Search) -> tuple[str, int] | None:
    """As `largest_rank`, of the layers that `model.target_modules` says; None where the method names others.

    Args:
        method: A recipe's.
        search: Likewise.
    """
    return None if method.targets is not None else largest_rank(method, search)


def check_targets(method: MethodSettings) -> None:
    """Make sure that a method adapts layers, if it says which.

    Args:
        method: A recipe's, or one of a comparison.

    Raises:
        UserError: It adapts none, or it cannot be loaded.
    """
    if method.targets is not None and not METHODS.load(method.name).adapts_layers:
        raise UserError(
            f"method {method.name!r} puts LoRA on no layers, so there are none to choose for it; leave targets out"
        )


def parse_seeds(text: str, option: str = "--seeds") -> list[int]:
    """The seeds that a text means, each once.

    Args:
        text: ``0-4`` or ``0,3,7-9``.
        option: That it was given with, for messages.

    Raises:
        UserError: It is anything else.
    """
    seeds: dict[int, None] = {}
    for word in text.split(","):
        found = re.fullmatch(r"([0-9]{1,10})(?:-([0-9]{1,10}))?", word.strip())
        if found is None or (first := int(found[1])) > (last := int(found[2] or found[1])):
            raise UserError(f"{option}: expected whole numbers and ranges, as in 0-4 or 0,3,7-9, got {show(text)}")
        if last > MAX_SEED:
            raise UserError(f"{option}: a seed is at most {MAX_SEED} (generators take 32 bits), got {last}")
        seeds.update(dict.fromkeys(range(first, min(last, first + MAX_SEEDS) + 1)))
        if len(seeds) > MAX_SEEDS:
            raise UserError(f"{option}: at most {MAX_SEEDS} seeds, as each is a run of every method, got {show(text)}")
    return list(seeds)
