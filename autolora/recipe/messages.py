"""What is wrong with a recipe, in one plain line each: ``validation_faults(values, where)``.

The schema's library reports every fault of a mapping at once, in its own words and with its own field paths; here they
become `Fault`s that say the rule, the value and the nearest valid name.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import UnionType
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from autolora.errors import Fault
from autolora.recipe.fields import Section
from autolora.recipe.schema import MethodSettings, Recipe
from autolora.words import did_you_mean

Path = tuple[str | int, ...]

WORDS: Mapping[Path, str] = {  # fields that are a list of modules, or this word instead
    ("model", "head"): "auto",
    ("model", "target_modules"): "all-linear",
    ("method", "targets"): "all-linear",
}

PATTERNS: Mapping[str | int, str] = {
    "revision": "a branch, a tag or a commit of the hub",
    "hub": "write owner/name",
    "license": "the hub's name for it, in small letters: apache-2.0, mit, cc-by-4.0, other",
}
OF_RANGES = ("greater_than_equal", "greater_than", "less_than_equal", "less_than")
OLDER_BOOLEANS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}  # of YAML 1.1

_RULES = {
    "missing": "missing, and it has no default",
    "extra_forbidden": "unknown key",
    "int_type": "must be a whole number, got {value}",
    "float_type": "must be a number, got {value}",
    "bool_type": "must be true or false, got {value}",
    "string_type": "must be text, got {value}",
    "tuple_type": "must be a list, got {value}",
    "model_type": "must be a section with keys below it, got {value}",
    "invalid_key": "a key must be text, got {value}",
    "finite_number": "must be a finite number, got {value}",
    "greater_than_equal": "must be at least {ge}, got {value}",
    "greater_than": "must be greater than {gt}, got {value}",
    "less_than_equal": "must be at most {le}, got {value}",
    "less_than": "must be less than {lt}, got {value}",
    "too_short": "must have {min_length} or more entries, got {actual_length}",
    "too_long": "must have {max_length} or fewer entries, got {actual_length}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have {max_length} or fewer characters, got {length}",
    "unprintable": "must have no control character, got {code}",
    "revision": "must be a branch, a tag or a commit, got {value}",
    "string_pattern_mismatch": "must be letters, digits, '.', '_' and '-', in parts separated by '/', got {value}",
    "literal_error": "must be {expected}, got {value}",
    "unknown_name": "must be one of {names}, got {value}",
    "value_error": "{error}",
}


def show(value: object, limit: int = 60) -> str:
    """A value as it would stand in YAML, on one line and not too long."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = " ".join(repr(value).split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def section_at(path: Iterable[str | int]) -> type[Section] | None:
    """The section class at a path (() is the recipe itself), or None where the path is no section."""
    section: type[Section] | None = Recipe
    for part in path:
        info = section.model_fields.get(str(part)) if section else None
        annotation = info.annotation if info else None
        kinds = [annotation, *(get_args(annotation) if isinstance(annotation, UnionType) else ())]  # Submission | None
        section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)
    return section


def dotted_names(path: tuple[str, ...] = ()) -> list[str]:
    """Every field of a recipe by dotted path, sections included."""
    section, names = section_at(path), []
    for name in section.model_fields if section else ():
        names += [".".join((*path, name)), *dotted_names((*path, name))]
    return names


def validation_faults(values: Mapping[str, Any], where: Callable[[str], str]) -> list[Fault]:
    """All faults of a recipe's values. `where` gives the place (file and line) of a dotted path."""
    errors = _errors(values)
    faults = _faults(errors, values, where)
    wrong = {path for path in (_path(error, values) for error in errors) if path}
    if not faults:
        return []
    # A section's own rules only run once its fields are right: take out the wrong fields and look again.
    healed = _without(values, wrong)
    for fault in _faults([e for e in _errors(healed) if e["type"] == "value_error"], healed, where):
        beside = [path[-1] for path in wrong if ".".join(map(str, path[:-1])) == fault.field]
        caused = any(re.search(rf"\b{key}\b", fault.message) for key in beside)  # no data.path, since it was wrong
        if fault not in faults and not caused:
            faults.append(fault)
    return faults


def method_faults(values: Mapping[str, Any]) -> list[Fault]:
    """All faults of a method's settings, in fields that begin with ``method.``; their place is "".

    Args:
        values: Of the method section.
    """
    try:
        MethodSettings.model_validate(values)
    except ValidationError as error:
        found = [{**each, "loc": ("method", *each["loc"])} for each in error.errors(include_url=False)]
        return _faults(found, {"method": values}, lambda field: "")  # type: ignore[arg-type]  # a TypedDict with another loc
    return []


def _errors(values: Mapping[str, Any]) -> list[ErrorDetails]:
    try:
        Recipe.model_validate(values)
    except ValidationError as error:
        return error.errors(include_url=False)
    return []


def _faults(errors: list[ErrorDetails], values: Mapping[str, Any], where: Callable[[str], str]) -> list[Fault]:
    grouped: dict[Path, list[ErrorDetails]] = {}
    for error in errors:
        grouped.setdefault(_path(error, values), []).append(error)
    for path, word in WORDS.items():
        _merge_alternatives(grouped, path, word)
    return [_fault(path, group[0], values, where) for path, group in grouped.items()]


def _merge_alternatives(grouped: dict[Path, list[ErrorDetails]], path: Path, word: str) -> None:
    """A list or a word: report one fault, against the alternative that was meant."""
    whole = grouped.get(path, [])
    if whole and isinstance(whole[0]["input"], list):  # a list was meant: its own errors say what is wrong
        whole[:] = [error for error in whole if error["type"] != "literal_error"]
        if not whole:
            del grouped[path]
    for error in whole:
        if error["type"] == "tuple_type":
            error["type"], error["ctx"] = "literal_error", {"expected": f"{word!r} or a list of modules"}


def _path(error: ErrorDetails, values: Mapping[str, Any]) -> Path:
    """The error's location as keys of the recipe, without the names of the union member that was tried."""
    here: Any = values
    path: list[str | int] = []
    for part in error["loc"]:
        known = part in here if isinstance(here, dict) else isinstance(here, list) and isinstance(part, int)
        if not known and error["type"] != "missing":
            break
        path.append(part)
        here = here[part] if known else None
    return tuple(path)


def _fault(path: Path, error: ErrorDetails, values: Mapping[str, Any], where: Callable[[str], str]) -> Fault:
    rule = _RULES.get(error["type"], error["msg"])
    context = {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in error.get("ctx", {}).items()}
    if error["type"] == "string_too_long":
        context["length"] = len(error["input"])
    message = rule.format(**{**context, "value": show(error["input"])}) if error["type"] in _RULES else rule
    # A list entry's fault stands under the list's name, at the entry's own line.
    field = path[:-1] if path and isinstance(path[-1], int) and len(path) > 2 else path
    return Fault(where(".".join(map(str, path))), ".".join(map(str, field)), message, _hint(path, error))


def _hint(path: Path, error: ErrorDetails) -> str:
    kind, value = error["type"], error["input"]
    if kind == "string_pattern_mismatch":
        return PATTERNS.get(path[-1], "")
    if kind in OF_RANGES:
        return reason_at(path)
    if kind == "bool_type" and isinstance(value, str):
        meant = OLDER_BOOLEANS.get(value.lower())
        return f"write {meant}" if meant else ""
    if kind in ("int_type", "float_type") and (meant := _number(value, kind)):
        return f"write {meant}"
    if kind == "extra_forbidden":
        return unknown_key_hint(path)
    if kind == "string_type" and isinstance(value, bool | int | float):
        return "put it in quotes"
    if kind == "tuple_type" and isinstance(value, str | int | float):
        return f"write [{value}]"
    if kind in ("literal_error", "unknown_name") and isinstance(value, str):
        return did_you_mean(value, _choices(path, error))
    return ""


def _number(value: object, kind: str) -> str:
    """A number that text or a float may mean, as a recipe has it: for 1_000, which YAML 1.1 read, and for 1e3."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= 10**9:  # more is too many for any field
        return str(int(value))
    plain = value.replace("_", "") if isinstance(value, str) else ""
    pattern = r"[-+]?[0-9]{1,15}" if kind == "int_type" else r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?"
    return plain if re.fullmatch(pattern, plain) else ""


def reason_at(path: Path) -> str:
    """The range of a field's number and its reason, as the schema describes it; "" where it has none.

    Args:
        path: Of the field, or of an entry of its list.
    """
    names = tuple(part for part in path if isinstance(part, str))
    section = section_at(names[:-1])
    info = section.model_fields.get(names[-1]) if section else None
    return (info.description or next(_descriptions(info.annotation), "")) if info else ""


def _descriptions(annotation: Any) -> Iterator[str]:
    for part in get_args(annotation):
        if isinstance(part, FieldInfo) and part.description:
            yield part.description
        yield from _descriptions(part)


def _choices(path: Path, error: ErrorDetails) -> list[str]:
    if error["type"] == "unknown_name":
        return str(error["ctx"]["names"]).split(", ")
    section = section_at(path[:-1])
    info = section.model_fields.get(str(path[-1])) if section else None
    return [str(choice) for choice in get_args(info.annotation) if isinstance(choice, str)] if info else []


def unknown_key_hint(path: Path) -> str:
    """The same key in another section, else the nearest one of the same section, else the keys there are."""
    section, name = section_at(path[:-1]), str(path[-1])
    keys = list(section.model_fields) if section else []
    same = [dotted for dotted in dotted_names() if dotted.rsplit(".", 1)[-1] == name]
    least = min((dotted.count(".") for dotted in same), default=0)  # of those, the ones that lie the least deep
    elsewhere = [repr(dotted) for dotted in same if dotted.count(".") == least]
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere)}?"
    if near := did_you_mean(name, keys):
        return near
    near = did_you_mean(name, dotted_names()) if len(path) == 1 else ""
    return near or f"there is: {', '.join(keys)}"


def _without(values: Mapping[str, Any], paths: Iterable[Path]) -> dict[str, Any]:
    """A copy without the fields at these paths (a wrong list entry takes its list with it)."""
    healed = copy.deepcopy(dict(values))
    for path in paths:
        here: Any = healed
        for key in path[:-1]:
            inner = here.get(key) if isinstance(here, dict) else None
            if not isinstance(inner, dict):
                here.pop(key, None)
                break
            here = inner
        else:
            here.pop(path[-1], None)
    return healed
